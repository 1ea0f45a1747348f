"""The README's commands, run as printed (but for the port, which is the test service's)."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plain import environment
from tests.service.instance import Service

pytestmark = [pytest.mark.root, pytest.mark.service]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PRINTED_URL = "http://127.0.0.1:7070"
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def run(kind: str, text: str, service: Service, directory: Path) -> str:
    text = text.replace(PRINTED_URL, service.url)
    # The CLI that the README names lives in the clone's environment; here it is that of the test.
    text = text.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    argv = [sys.executable, "-"] if kind == "python" else ["bash", "-euo", "pipefail"]
    done = subprocess.run(
        argv,
        input=text,
        capture_output=True,
        text=True,
        cwd=directory,
        timeout=60,
        env={**environment(), "SANDBOXD_URL": service.url},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def outputs(service: Service, tmp_path: Path) -> list[str]:
    return [run(kind, text, service, tmp_path) for kind, text in BLOCKS]


def test_every_command_does_what_the_readme_says(outputs: list[str]) -> None:
    reversed_, limited, asynchronous, collected, client, shell = outputs
    assert json.loads(reversed_)["stdout"] == "desserts\n"
    assert json.loads(limited)["status"] == "cpu_time_exceeded"
    *events, record = asynchronous.strip().splitlines()
    assert any("event: finished" in line for line in events)
    assert json.loads(record)["result"]["stdout"] == "done\n"
    assert json.loads(collected)["files"]["out.txt"] == {"text": "SHOUT\n"}
    assert client.startswith("ok 42")
    assert shell == "6\n"


def test_the_python_example_is_five_lines() -> None:
    (example,) = [text for kind, text in BLOCKS if kind == "python"]
    assert len([line for line in example.splitlines() if line]) <= 5


@pytest.mark.parametrize("target", re.findall(r"`make ([a-z-]+)`", README))
def test_every_make_target_that_the_readme_names_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
