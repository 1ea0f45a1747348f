"""A service of the comparison's own, on which each run's path is certain."""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from sandboxd.settings import Settings
from tests.service.instance import ServiceError, running
from tests.warm.comparison import AT_ONCE, Comparison

READY = 24
"""Warm interpreters: as many runs begin together, and each finds one."""
COPIES = 8
"""Of one zygote: several serve, and end, within one filling."""
FULL_WITHIN = 90.0


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comparison]:
    """Warm interpreters are copies of zygotes."""
    with comparing(tmp_path_factory.mktemp("warm"), COPIES, READY) as found:
        yield found


@pytest.fixture(scope="module")
def prestarted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comparison]:
    """Each is started in its sandbox, as those of images are."""
    with comparing(tmp_path_factory.mktemp("prestarted"), 0, READY // 2) as found:
        yield found


@contextmanager
def comparing(directory: Path, copies: int, ready: int) -> Iterator[Comparison]:
    """No sandbox but warm ones is built ahead, so each run that goes cold is one claim in vain, and
    the node counts those."""
    policies = directory / "policies"
    shutil.copytree(Settings().policy_path, policies)
    for name in ("pool_size", "pool_max"):
        _set(policies / "templates" / "default.toml", name, 0)
        _set(policies / "languages" / "python.toml", name, ready)
    _set(policies / "languages" / "python.toml", "copies", copies)
    with (
        running(f"policies={policies}", "node.heartbeat=0.2") as service,
        httpx.Client(
            base_url=service.url, timeout=120, limits=httpx.Limits(max_connections=AT_ONCE)
        ) as client,
    ):
        yield Comparison(client, ready, _until_full)


def _set(path: Path, name: str, value: int) -> None:
    text, count = re.subn(rf"(?m)^{name} = \d+", f"{name} = {value}", path.read_text())
    assert count == 1, f"{path.name} has no {name}"
    path.write_text(text)


def _until_full(comparison: Comparison) -> None:
    """Until the node has announced that all warm interpreters wait."""
    deadline = time.monotonic() + FULL_WITHIN
    while comparison.counted('sandboxd_node_pool{.*template="default.python"}') < comparison.ready:
        if time.monotonic() > deadline:
            raise ServiceError(f"no {comparison.ready} warm interpreters within {FULL_WITHIN} s")
        time.sleep(0.05)
