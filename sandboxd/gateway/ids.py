"""Names and times of runs."""

import base64
import re
import secrets
from datetime import UTC, datetime

RUN_ID = r"^run_[a-z2-7]{26}$"
_RUN_ID = re.compile(r"run_[a-z2-7]{26}")


def new_run_id() -> str:
    """An unguessable id: `run_` and 130 random bits in lower-case base32."""
    return "run_" + base64.b32encode(secrets.token_bytes(17))[:26].decode().lower()


def is_run_id(text: str) -> bool:
    return _RUN_ID.fullmatch(text) is not None


def timestamp() -> str:
    """Now, RFC 3339 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
