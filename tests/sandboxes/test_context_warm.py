"""Sandboxes of a template with `context`: its interpreter runs when they are handed out."""

import time
from collections.abc import Iterator

import pytest

from tests.patience import PATIENCE
from tests.sandboxes.conftest import Box, Tenant

pytestmark = [pytest.mark.root, pytest.mark.service]


@pytest.fixture(scope="module")
def prepared(ann: Tenant) -> Iterator[Box]:
    """The first one comes without, and has the next prepared."""
    first = ann.create(template="code")
    assert run(first, "1 + 1")["results"][0]["text"] == "2"
    first.kill()
    end = time.monotonic() + 30 * PATIENCE
    while time.monotonic() < end:
        begin = time.monotonic()
        box = ann.create(template="code", env={"MINE": "told"}, metadata={"of": "ann"})
        took = time.monotonic() - begin
        if is_older(box):
            assert took < 2 * PATIENCE
            yield box
            box.kill()
            return
        box.kill()
        time.sleep(0.3)
    pytest.fail("no sandbox came with a context that had waited")


def run(box: Box, code: str) -> dict[str, object]:
    return box.ok("POST", "/contexts/ctx_python/run", json={"code": code})


def is_older(box: Box) -> bool:
    """Whether the default context began before the sandbox was asked for."""
    created = box.ok("GET")["created_at"]
    return any(each["started_at"] < created for each in box.ok("GET", "/contexts")["contexts"])


def test_it_knows_what_sandbox_it_is_in(prepared: Box) -> None:
    assert run(prepared, "import os; os.environ['MINE']")["results"][0]["text"] == "'told'"
    assert prepared.sh("echo $MINE; pwd") == "told\n/work\n"


def test_it_is_a_context_like_any_other(prepared: Box) -> None:
    run(prepared, "kept = 1")
    assert run(prepared, "kept")["results"][0]["text"] == "1"
    listed = prepared.ok("GET", "/contexts")["contexts"]
    assert [(each["id"], each["language"]) for each in listed] == [("ctx_python", "python")]
    prepared.ok("POST", "/contexts/ctx_python/restart")
    assert run(prepared, "kept")["exception"]["name"] == "NameError"
    assert run(prepared, "import os; os._exit(3)")["status"] == "died"
    assert run(prepared, "2")["results"][0]["text"] == "2"


def test_it_is_as_locked_down_as_what_starts_later(prepared: Box) -> None:
    code = "print(open('/proc/self/status').read())"
    said = str(run(prepared, code)["stdout"])
    other = prepared.run("python3", "-c", code)["stdout"]
    for line in ("Seccomp:", "NoNewPrivs:", "CapEff:", "CapBnd:", "Uid:", "Gid:", "Groups:"):
        assert find(said, line) == find(other, line) != ""


def find(text: str, head: str) -> str:
    return next((line for line in text.splitlines() if line.startswith(head)), "")


def test_no_two_have_the_same_chance(ann: Tenant, prepared: Box) -> None:
    """Nothing was forked from one that others come of."""
    other = ann.create(template="code")
    code = "import random, numpy\nrandom.random(), numpy.random.random()"
    drawn = [run(box, code)["results"] for box in (prepared, other)]
    assert drawn[0] != drawn[1]
    other.kill()
