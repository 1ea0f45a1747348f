"""The usual ends, by name, with what the API always says with them."""

from typing import Any

from tests.matrix.case import UNSAID, Expect

MiB = 1 << 20
OVERRUN = 0.5
"""CPU seconds that a group may have used above its limit when it is found and killed."""


def ok(**more: Any) -> Expect:
    return Expect(status="ok", exit_code=0, signal=None, **more)


def exits(code: int, **more: Any) -> Expect:
    return Expect(status="nonzero_exit", exit_code=code, signal=None, **more)


def signalled(name: str, **more: Any) -> Expect:
    return Expect(status="signalled", exit_code=None, signal=name, **more)


def killed(status: str, **more: Any) -> Expect:
    """Stopped by us: no exit code of its own, and the signal that we sent."""
    return Expect(status=status, exit_code=None, signal="SIGKILL", **more)


def over_cpu(limit: float, **more: Any) -> Expect:
    return killed("cpu_time_exceeded", cpu_time=(limit, limit + OVERRUN), **more)


def over_wall(limit: float, **more: Any) -> Expect:
    return killed("wall_time_exceeded", wall_time=(limit, limit + 5), **more)


def over_memory(limit: int, *, signal: str | None = "SIGKILL", **more: Any) -> Expect:
    """Peak memory stays at the limit: it held. Its last pages may have been refused."""
    return Expect(
        status="memory_exceeded",
        exit_code=None if signal == "SIGKILL" else UNSAID,
        signal=signal,
        peak_memory=(limit * 0.75, limit + MiB),
        **more,
    )


def over_output(**more: Any) -> Expect:
    """The program may have ended by itself before the surplus byte was seen."""
    return Expect(status="output_exceeded", **more)


def violation(**more: Any) -> Expect:
    return Expect(status="security_violation", exit_code=None, signal="SIGSYS", **more)
