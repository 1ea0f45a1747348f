"""A service by URL: `POST /v1/runs`, a keep-alive connection for each client."""

import asyncio
import time
from urllib.parse import urlsplit

from msgspec import Struct

from loadtest import closedloop, cpu
from loadtest.closedloop import ClosedLoad
from loadtest.http1 import Connection, ExchangeError, request
from loadtest.job import Client, Expectation, Job, judge
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

    @classmethod
    def of(cls, url: str, key: str | None = None) -> "Server":
        """From `http://host:port`. Raises ValueError."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path.strip("/"):
            raise ValueError(f"{url}: expected http://host:port")
        return cls(host=parts.hostname, port=parts.port or 80, key=key)

    def request(self, body: bytes) -> bytes:
        headers = [("Content-Type", "application/json")]
        if self.key:
            headers.append(("Authorization", f"Bearer {self.key}"))
        return request("POST", "/v1/runs", f"{self.host}:{self.port}", body, headers)

    async def connect(self) -> Client:
        """A client with its connection open. Raises ExchangeError."""
        client = HttpClient(self)
        await client.open()
        return client


class HttpClient:
    """One connection. The bytes of a request are made once per kind of job."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection = Connection(server.host, server.port)
        self._requests: dict[str, bytes] = {}

    async def open(self) -> None:
        await self._connection.connect()

    async def run(self, job: Job) -> Failure | None:
        sent = self._requests.get(job.name)
        if sent is None:
            sent = self._requests[job.name] = self._server.request(job.body)
        try:
            status, body = await self._connection.exchange(sent, self._server.timeout)
        except ExchangeError as error:
            return Failure(error.kind, error.detail)
        return judge(job.expect, status, body)

    def close(self) -> None:
        self._connection.close()


class HttpPeer:
    """This service. With `service_pid`, its first process, the CPU is split by process."""

    def __init__(self, name: str, about: str, server: Server, service_pid: int | None) -> None:
        self.name, self.about = name, about
        self._server, self._pid = server, service_pid

    def runs(self, workload: Workload) -> bool:
        return True

    async def measure(self, workload: Workload, load: ClosedLoad) -> Measurement:
        job = job_of(workload)
        before = cpu.read(self._pid) if self._pid else None
        measured = await closedloop.measure(self._server.connect, lambda _: job, load)
        return await with_service_cpu(measured, before, self._pid)


def job_of(workload: Workload) -> Job:
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
