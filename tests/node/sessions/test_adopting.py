"""What a keeper gives back is taken over, or let go of without a trace: it never keeps a node from
starting."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sandboxd.errors import DriverFault
from sandboxd.model.session import ProcessRequest, SandboxRequest, SessionLimits
from sandboxd.native.core import ABI
from sandboxd.node.adopting import LOCKS, Survivors
from sandboxd.node.sessions.keeping import Kept, fetch
from sandboxd.node.sessions.kept import Identity, KeptProcess, KeptSession

SESSION = KeptSession(
    abi=ABI,
    identity=Identity(
        id="sbx_a", tenant="t", node="n", template="session", image="host", network="none",
        created_at=1.0,
    ),
    request=SandboxRequest(), limits=SessionLimits(), expires_at=1.0, paused_at=None, numbers=1,
    name="sb-1", image="", uid=1, pid=1, layers=[], group_limits=(1, 1), disk=1,
)  # fmt: skip
PROCESS = KeptProcess(
    id="prc_a", number=1, pid=2, request=ProcessRequest(command=["x"]), started_at=1.0,
    open=(True, False, False), exited=None, exited_at=0.0, timed_out=False, failed=None,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) == before


def kept(state: object, count: int) -> Kept:
    """So many descriptors, the second of them of a process that lives."""
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
    if count > 1:
        os.close(fds[1])
        fds[1] = os.pidfd_open(os.getpid())
    data = state if isinstance(state, bytes) else msgspec.msgpack.encode(state)
    return Kept(data, fds)


class Driver:
    """Refuses everything, as where a control group is gone."""

    def adopt(self, *_: object, **__: object) -> None:
        raise DriverFault("cgroups", "adopt a group", "it is gone")


class Template(msgspec.Struct):
    mounts: tuple[object, ...] = ()


class Mounts:
    def of(self, *_: object) -> tuple[object, ...]:
        return ()


@pytest.mark.parametrize(
    "found",
    [
        {"sbx_a": (b"\xff nonsense", 4)},
        {"sbx_a": (msgspec.structs.replace(SESSION, abi=ABI - 1), 4)},
        {"sbx_a": (SESSION, 3)},
        {"sbx_a/prc_a": (PROCESS, 1)},
        {"sbx_a": (SESSION, 4), "sbx_a/prc_a": (b"?", 1)},
    ],
)
def test_what_cannot_be_taken_over_is_let_go(found: dict[str, tuple[object, int]]) -> None:
    given = {name: kept(state, count) for name, (state, count) in found.items()}
    survivors = Survivors(given)
    whole = found.get("sbx_a") == (SESSION, 4)
    assert survivors.groups == ({"sb-1"} if whole else set())
    driver, specs, mounts = Driver(), {"session": Template()}, Mounts()
    assert survivors.adopt(driver, specs, lambda _: None, mounts, None) == []  # type: ignore[arg-type,return-value]
    assert survivors.groups == set()


def test_locks_are_ours() -> None:
    survivors = Survivors({LOCKS: kept(None, 1)})
    (lock,) = survivors.locks
    os.close(lock)


def test_without_a_keeper_there_is_nothing(tmp_path: Path) -> None:
    assert fetch(tmp_path / "none") == {}
