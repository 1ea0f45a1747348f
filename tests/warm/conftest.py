"""A service of the comparison's own, on which each run's path is certain."""

import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from sandboxd.policy import load
from sandboxd.settings import Settings
from tests.service.instance import ServiceError, running
from tests.warm.comparison import AT_ONCE, Comparison

READY = 24
"""Warm interpreters: as many runs begin together, and each finds one."""
COPIES = 8
"""Of one zygote: several serve, and end, within one filling."""
NODES = 8
"""As many of Node, which is larger."""
FULL_WITHIN = 90.0
WARM = tuple(
    name for name, each in load(Settings().policy_path).languages.items() if each.warm is not None
)


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


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comparison]:
    """Of Node, which is never copied."""
    with comparing(tmp_path_factory.mktemp("node"), 0, NODES, "node") as found:
        yield found


@contextmanager
def comparing(
    directory: Path,
    copies: int,
    ready: int,
    language: str = "python",
    store: Path | None = None,
    own: Mapping[str, str] | None = None,
) -> Iterator[Comparison]:
    """No sandbox but warm ones is built ahead, so each run that goes cold is one claim in vain, and
    the node counts those. With a store of images everything runs in the one of the language's name.
    `own` are texts of languages by their names, besides the shipped ones or instead."""
    policies = directory / "policies"
    shutil.copytree(Settings().policy_path, policies)
    for name in ("pool_size", "pool_max"):
        set_number(policies / "templates" / "default.toml", name, 0)
        for warm in WARM:
            set_number(
                policies / "languages" / f"{warm}.toml", name, ready if warm == language else 0
            )
    set_number(policies / "languages" / "python.toml", "copies", copies)
    for name, text in (own or {}).items():
        (policies / "languages" / f"{name}.toml").write_text(text)
    settings = [f"policies={policies}", "node.heartbeat=0.2"]
    if store is not None:
        settings.append(f"graph.path={store}")
        template = policies / "templates" / "default.toml"
        template.write_text(template.read_text().replace('"host"', f'"{language}"'))
    with (
        running(*settings) as service,
        httpx.Client(
            base_url=service.url, timeout=120, limits=httpx.Limits(max_connections=AT_ONCE)
        ) as client,
    ):
        yield Comparison(client, language, ready, until_full)


def set_number(path: Path, name: str, value: int) -> None:
    text, count = re.subn(rf"(?m)^{name} = \d+", f"{name} = {value}", path.read_text())
    assert count == 1, f"{path.name} has no {name}"
    path.write_text(text)


def until_full(comparison: Comparison) -> None:
    """Until the node has announced that all warm interpreters wait."""
    deadline = time.monotonic() + FULL_WITHIN
    shelf = f'sandboxd_node_pool{{.*template="default.{comparison.language}"}}'
    while comparison.counted(shelf) < comparison.ready:
        if time.monotonic() > deadline:
            raise ServiceError(f"no {comparison.ready} warm interpreters within {FULL_WITHIN} s")
        time.sleep(0.05)
