"""A language of an operator's own, whose interpreter waits by the protocol of `docs/warm.md`."""

import shutil
from pathlib import Path

import httpx
import pytest

from sandboxd.settings import Settings
from tests.service.instance import running
from tests.warm.comparison import Comparison
from tests.warm.conftest import WARM, set_number, until_full

pytestmark = [pytest.mark.root, pytest.mark.service, pytest.mark.timeout(120)]

LANGUAGE = """
name = "shout"
title = "Capitals"
source = "main.shout"
requires = ["/usr/bin/python3"]
run = ["/usr/bin/python3", "/opt/shout/held.py", "{source}"]

[warm]
command = ["/usr/bin/python3", "-I", "/opt/shout/held.py"]
env = {}
pool_size = 2
cold_env = ["LANG"]

[self_test]
source = "x"
stdout = "X"
"""


def test_any_command_that_speaks_the_protocol_is_started_ahead(tmp_path: Path) -> None:
    policies, held = tmp_path / "policies", tmp_path / "shout"
    shutil.copytree(Settings().policy_path, policies)
    for warm in WARM:
        set_number(policies / "languages" / f"{warm}.toml", "pool_size", 0)
        set_number(policies / "languages" / f"{warm}.toml", "pool_max", 0)
    (policies / "languages" / "shout.toml").write_text(LANGUAGE)
    held.mkdir()
    shutil.copy(Path(__file__).with_name("held.py"), held)
    for path in (*tmp_path.parents[:2], tmp_path, held):
        path.chmod(0o755)
    settings = (f"policies={policies}", f"host_image.binds=/opt/shout={held}")
    with running(*settings) as service, httpx.Client(base_url=service.url, timeout=60) as client:
        comparison = Comparison(client, "shout", 2, until_full)
        for source in ("one\ntwo\n", "long " * 60_000):
            until_full(comparison)
            body = {"language": "shout", "source": source, "env": {"WORD": "w"}, "args": ["a", "é"]}
            answer = client.post("/v1/runs", json=body).json()
            lines = [f"{line.strip().upper()} w ['a', 'é']" for line in source.splitlines()]
            assert (answer["exit_code"], answer["stdout"]) == (4, "\n".join([*lines, ""]))
        comparison.runs = 2
        assert comparison.counted_cold() == 0
