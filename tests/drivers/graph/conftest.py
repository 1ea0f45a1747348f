"""A store of its own for each test, and archives made by hand."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sandboxd.drivers.graph.graph import Graph
from sandboxd.settings import GraphSettings, Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return msgspec.structs.replace(
        Settings(),
        state_dir=str(tmp_path / "state"),
        graph=GraphSettings(layer_entries_max=5_000, layer_bytes_max=64 << 20),
    )


@pytest.fixture
def graph(settings: Settings) -> Iterator[Graph]:
    with Graph(settings) as graph:
        yield graph
