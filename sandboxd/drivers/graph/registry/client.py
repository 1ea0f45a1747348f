"""Requests to one repository of a registry: authorised, retried, and each translated into our errors.

A request that meets a broken connection, a full or a failing registry is tried again after a pause
that doubles; `Retry-After` is heeded. 401 is answered once, by the challenge that came with it.
"""

import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urljoin, urlsplit

import httpx
import msgspec
from msgspec import Struct

from sandboxd.drivers.graph.registry.credentials import Credentials, credentials
from sandboxd.drivers.graph.registry.names import RemoteName, is_loopback
from sandboxd.errors import DriverFault, UnknownImage

_TRIES = 6
_PAUSE_FIRST, _PAUSE_MAX = 0.25, 30.0
_TRANSIENT = (408, 429, 500, 502, 503, 504)
_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_SMALL_MAX = 1 << 20
_PARAMETER = re.compile(r'([A-Za-z]+)="([^"]*)"')

Body = bytes | Callable[[], Iterator[bytes]]
"""Content of a request; a stream is made anew for each try."""


class _Token(Struct, frozen=True):
    token: str = ""
    access_token: str = ""


class Broken(Exception):
    """The connection broke inside a body; what came so far is good."""


class Client:
    """Safe from several threads."""

    def __init__(
        self,
        name: RemoteName,
        *,
        push: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`push` asks for the right to write, too."""
        self.name, self._sleep = name, sleep
        self._scope = f"repository:{name.repository}:{'pull,push' if push else 'pull'}"
        self._authorization = ""
        self._lock = threading.Lock()
        self._http = httpx.Client(
            timeout=_TIMEOUT,
            follow_redirects=True,
            transport=transport,
            headers={"User-Agent": "sandboxd"},
            trust_env=not is_loopback(urlsplit(name.base).netloc),
        )

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def url(self, path: str) -> str:
        """Of something in the repository, e.g. `manifests/latest`."""
        return f"{self.name.base}/v2/{self.name.repository}/{path}"

    def small(
        self,
        method: str,
        url: str,
        *,
        accept: tuple[int, ...] = (200,),
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        limit: int = _SMALL_MAX,
    ) -> httpx.Response:
        """A request whose answer is short and wholly read, at most `limit` bytes of it.

        Raises UnknownImage for 404, DriverFault for anything else that is not in `accept`.
        """
        for pause in self._pauses():
            try:
                with self.streaming(
                    method, url, accept=accept, headers=headers, body=body
                ) as answer:
                    content = b""
                    for part in answer.iter_raw():
                        content += part
                        if len(content) > limit:
                            raise DriverFault("registry", f"{method} {url}", "a long answer")
                    return httpx.Response(
                        answer.status_code, headers=answer.headers, content=content
                    )
            except (httpx.TransportError, Broken) as error:
                self._rest(pause, method, url, error)
        raise AssertionError("the last pause raises")

    @contextmanager
    def streaming(
        self,
        method: str,
        url: str,
        *,
        accept: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
    ) -> Iterator[httpx.Response]:
        """A request whose answer is read in the block. Raises as `small`, and Broken inside."""
        answer = self._answer(method, url, accept, dict(headers or {}), body)
        try:
            yield answer
        except httpx.TransportError as error:
            raise Broken(str(error) or type(error).__name__) from error
        finally:
            answer.close()

    def _answer(
        self, method: str, url: str, accept: tuple[int, ...], headers: dict[str, str], body: Body
    ) -> httpx.Response:
        challenged = False
        pauses = self._pauses()
        while True:
            sent = dict(headers)
            # To the registry itself alone: an upload may be told to go elsewhere.
            if self._authorization and url.startswith(self.name.base + "/"):
                sent["Authorization"] = self._authorization
            try:
                content = body if isinstance(body, bytes) else body()
                request = self._http.build_request(method, url, headers=sent, content=content)
                answer = self._http.send(request, stream=True)
            except httpx.TransportError as error:
                self._rest(next(pauses), method, url, error)
                continue
            if answer.status_code in accept:
                return answer
            answer.close()
            if answer.status_code == 401 and not challenged:
                challenged = True
                self._authorize(answer.headers.get("www-authenticate", ""))
            elif answer.status_code in _TRANSIENT:
                given = answer.headers.get("retry-after", "")
                pause = next(pauses)
                if given.isdigit() and pause is not None:
                    pause = min(float(given), _PAUSE_MAX)
                self._rest(pause, method, url, f"status {answer.status_code}")
            elif answer.status_code == 404:
                raise UnknownImage(f"{self.name.local}: {method} {url}: not found")
            else:
                raise DriverFault("registry", f"{method} {url}", f"status {answer.status_code}")

    def _pauses(self) -> Iterator[float | None]:
        """Seconds before each further try; None for none."""
        for number in range(_TRIES - 1):
            # Jitter keeps clients that failed together from coming back together.
            yield min(_PAUSE_MAX, _PAUSE_FIRST * 2**number) * random.uniform(0.7, 1.3)  # noqa: S311
        yield None

    def _rest(self, pause: float | None, method: str, url: str, cause: object) -> None:
        if pause is None:
            raise DriverFault("registry", f"{method} {url}", f"given up: {cause}")
        self._sleep(pause)

    def _authorize(self, challenge: str) -> None:
        kind, _, rest = challenge.partition(" ")
        known = credentials(self.name.registry)
        with self._lock:
            if kind.lower() == "basic" and known is not None:
                self._authorization = _basic(known)
            elif kind.lower() == "bearer":
                self._authorization = f"Bearer {self._token(dict(_PARAMETER.findall(rest)), known)}"

    def _token(self, challenge: dict[str, str], known: Credentials | None) -> str:
        realm = urljoin(self.name.base, challenge.get("realm", ""))
        if urlsplit(realm).scheme != "https" and not is_loopback(urlsplit(realm).netloc):
            raise DriverFault(
                "registry", "authorize", f"{realm} would see the password in the clear"
            )
        asked = {"scope": self._scope}
        if "service" in challenge:
            asked["service"] = challenge["service"]
        try:
            if known is not None and known.token:
                form = {"grant_type": "refresh_token", "refresh_token": known.token,
                        "client_id": "sandboxd", **asked}  # fmt: skip
                answer = self._http.post(realm, data=form)
            else:
                headers = {} if known is None else {"Authorization": _basic(known)}
                answer = self._http.get(realm, params=asked, headers=headers)
        except httpx.TransportError as error:
            raise DriverFault("registry", f"authorize at {realm}", str(error)) from error
        if answer.status_code != 200:
            raise DriverFault("registry", f"authorize at {realm}", f"status {answer.status_code}")
        try:
            given = msgspec.json.decode(answer.content, type=_Token)
        except msgspec.DecodeError as error:
            raise DriverFault("registry", f"authorize at {realm}", str(error)) from error
        return given.token or given.access_token


def _basic(known: Credentials) -> str:
    return httpx.BasicAuth(known.username, known.password)._auth_header
