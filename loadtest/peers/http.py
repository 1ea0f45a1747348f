"""A service by URL, a keep-alive connection for each client."""

import asyncio
import time
from urllib.parse import urlsplit

from msgspec import Struct

from loadtest import closedloop, cpu
from loadtest.closedloop import ClosedLoad
from loadtest.http1 import Connection, ExchangeError, request
from loadtest.job import Expectation, Job, OneShot
from loadtest.job import job as make_job
from loadtest.measurement import Failure, Measurement
from loadtest.workload import Workload

_SETTLE = 0.15
"""Seconds between the last answer and the last reading of the CPU: teardown and refill of the
pool happen off the path of a run, and belong to the runs that caused them."""


class Server(Struct, frozen=True, kw_only=True):
    """Where a service listens, and how to ask."""

    host: str
    port: int
    key: str | None = None
    timeout: float = 30.0
    """Seconds for one answer."""
    base: str = ""
    """What every path begins with; no slash at its end."""
    key_header: tuple[str, str] = ("Authorization", "Bearer {}")
    """Where the key goes."""

    @classmethod
    def of(cls, url: str, key: str | None = None) -> "Server":
        """From `http://host:port/base`. Raises ValueError."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{url}: expected http://host:port")
        return cls(host=parts.hostname, port=parts.port or 80, key=key, base=parts.path.rstrip("/"))

    def request(self, method: str, target: str, body: bytes, kind: str) -> bytes:
        headers = [("Content-Type", kind)]
        if self.key:
            name, form = self.key_header
            headers.append((name, form.format(self.key)))
        return request(method, self.base + target, f"{self.host}:{self.port}", body, headers)

    async def connect(self) -> "HttpClient":
        """A client with its connection open. Raises ExchangeError."""
        client = HttpClient(self)
        await client.open()
        return client


class HttpClient:
    """One connection, and one more for what is read slowly."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection = Connection(server.host, server.port)
        self._slow: dict[float, Connection] = {}
        self._requests: dict[str, bytes] = {}

    async def open(self) -> None:
        await self._connection.connect()

    async def run(self, job: Job) -> Failure | None:
        try:
            return await job.run(self)
        except ExchangeError as error:
            return Failure(error.kind, error.detail)

    async def post(self, job: OneShot) -> tuple[int, bytes]:
        sent = self._requests.get(job.name)
        if sent is None:
            sent = self._server.request("POST", job.target, job.body, "application/json")
            self._requests[job.name] = sent
        return await self._line(job.pause).exchange(sent, self._server.timeout)

    async def ask(
        self, method: str, target: str, body: bytes = b"", kind: str = "application/json"
    ) -> tuple[int, bytes]:
        sent = self._server.request(method, target, body, kind)
        return await self._connection.exchange(sent, self._server.timeout)

    def close(self) -> None:
        for connection in (self._connection, *self._slow.values()):
            connection.close()

    def _line(self, pause: float) -> Connection:
        if not pause:
            return self._connection
        if pause not in self._slow:
            self._slow[pause] = Connection(self._server.host, self._server.port, pause)
        return self._slow[pause]


class HttpPeer:
    """This service. With `service_pid`, its first process, the CPU is split by process."""

    def __init__(self, name: str, about: str, server: Server, service_pid: int | None) -> None:
        self.name, self.about = name, about
        self.server, self.pid = server, service_pid

    def runs(self, workload: Workload) -> bool:
        return True

    async def measure(self, workload: Workload, load: ClosedLoad) -> Measurement:
        job = job_of(workload)
        before = cpu.read(self.pid) if self.pid else None
        measured = await closedloop.measure(self.server.connect, lambda _: job, load)
        return await with_service_cpu(measured, before, self.pid)


def job_of(workload: Workload) -> OneShot:
    expect = Expectation(exit_code=0, stdout=workload.stdout)
    return make_job(workload.name, workload.request, expect)


async def with_service_cpu(
    measured: Measurement, before: cpu.Usage | None, pid: int | None
) -> Measurement:
    """`measured` with what the service used since `before`; a process that died is an error."""
    if before is None or pid is None:
        return measured
    await asyncio.sleep(_SETTLE)
    try:
        return measured.with_cpu(cpu.between(before, cpu.read(pid)))
    except (cpu.RestartedError, ProcessLookupError) as error:
        return measured.with_error("service_restarted", str(error))


async def await_ready(server: Server, seconds: float) -> None:
    """Returns once `GET /readyz` is 200. Raises TimeoutError.

    A starting server gives no event to wait for, so it is asked again every 50 ms.
    """
    ask = request("GET", "/readyz", f"{server.host}:{server.port}")
    deadline = time.monotonic() + seconds
    connection = Connection(server.host, server.port)
    last = "never asked"
    try:
        while time.monotonic() < deadline:
            try:
                status, body = await connection.exchange(ask, 5.0)
            except ExchangeError as error:
                last = str(error)
            else:
                if status == 200:
                    return
                last = f"{status} {body[:200]!r}"
            await asyncio.sleep(0.05)
    finally:
        connection.close()
    raise TimeoutError(f"not ready after {seconds:g} s: {last}")
