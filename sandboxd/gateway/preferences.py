"""Request headers of runs: `Prefer` (RFC 7240) and `Idempotency-Key`."""

import re

from msgspec import Struct
from starlette.datastructures import Headers

from sandboxd.errors import InvalidRequest

IDEMPOTENCY_KEY = r"^[!-~]{1,255}$"
_KEY = re.compile(r"[!-~]{1,255}")
_WAIT = re.compile(r"[0-9]{1,9}")


class Preference(Struct, frozen=True):
    """How a client wants its answer."""

    respond_async: bool = False
    wait: int | None = None
    """Seconds."""

    @property
    def applied(self) -> str | None:
        """Value of Preference-Applied."""
        words = ["respond-async"] if self.respond_async else []
        if self.wait is not None:
            words.append(f"wait={self.wait}")
        return ", ".join(words) or None


def preference(headers: Headers) -> Preference:
    """What `Prefer` says; what we do not understand is ignored, as the RFC demands."""
    respond_async, wait = False, None
    for line in headers.getlist("prefer"):
        for item in line.split(","):
            name, _, value = item.partition(";")[0].partition("=")
            name, value = name.strip().lower(), value.strip().strip('"')
            if name == "respond-async":
                respond_async = True
            elif name == "wait" and wait is None and _WAIT.fullmatch(value):
                wait = int(value)
    return Preference(respond_async, wait)


def idempotency_key(headers: Headers) -> str | None:
    """Raises InvalidRequest if there is a key and it is not 1 to 255 visible ASCII characters."""
    key = headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidRequest("a key has 1 to 255 visible ASCII characters", field="Idempotency-Key")
    return key
