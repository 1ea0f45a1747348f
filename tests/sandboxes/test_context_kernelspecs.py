"""Contexts of Jupyter kernels: IRkernel, and one that a tenant has put into the sandbox."""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandboxes.conftest import Box, Tenant
from tests.sandboxes.test_contexts import Ctx

pytestmark = [pytest.mark.root, pytest.mark.service]

KERNEL = (Path(__file__).parent / "inside" / "shout_kernel.py").read_bytes()
PLACE = ".local/share/jupyter/kernels/shout"


@pytest.fixture(scope="module")
def shouting(ann: Tenant) -> Iterator[Box]:
    box = ann.create()
    place = box.sh(f'cd; mkdir -p {PLACE} /work/there; printf %s "$PWD/{PLACE}"')
    box.put(f"{place}/kernel.py", KERNEL)
    spec = {
        "argv": ["python3", "{resource_dir}/kernel.py", "{connection_file}"],
        "display_name": "Shout", "language": "shout", "interrupt_mode": "message",
    }  # fmt: skip
    box.put(f"{place}/kernel.json", json.dumps(spec).encode())
    yield box
    box.kill()


def test_values_of_r_come_in_every_format_that_its_kernel_has(box: Box) -> None:
    r = Ctx(box, "ctx_r")
    done = r.run("x <- 1:3; x; data.frame(a = x); plot(x); message('heard'); cat('said\\n')")
    array, frame, plot = done["results"]
    assert array["text"] == "[1] 1 2 3"
    assert "<td>3</td>" in frame["html"] and "| 3 |" in frame["markdown"] and frame["latex"]
    assert base64.b64decode(plot["png"]).startswith(b"\x89PNG")
    assert (done["stdout"], done["stderr"]) == ("said\n", "heard\n\n")
    last = r.run("1; x[2]")["results"]
    assert [(each["text"], each.get("main", False)) for each in last] == [
        ("[1] 1", False), ("[1] 2", True),
    ]  # fmt: skip
    assert "Scatter" in r.run("?plot")["results"][0]["html"]  # what a notebook shows in its pager
    assert r.run("nchar(readline('nobody answers'))")["status"] == "ok"


def test_a_kernel_that_ends_is_followed_by_another(box: Box) -> None:
    r = Ctx(box, "ctx_ir")  # by the kernelspec's own name
    asked = r.run("y <- 1; quit()")
    assert asked["exception"]["value"].startswith("a context is ended")
    assert r.run("tools::pskill(Sys.getpid(), 9)")["status"] == "died"
    assert r.run("exists('y')")["results"][0]["text"] == "[1] FALSE"


def test_a_kernelspec_of_the_sandbox_is_a_language(shouting: Box) -> None:
    shout = Ctx.create(shouting, language="shout", cwd="/work/there")
    done = shout.run("hello")
    shown, value = done["results"]
    assert (shown["html"], shown["extra"], value["text"]) == ("<b>!</b>", {"x/y": 1}, "HELLO")
    assert value["main"] and done["stderr"] == "1\n"
    assert shouting.ok("GET", "/contexts")["contexts"][-1]["language"] == "shout"
    began = time.monotonic()
    stopped = shout.run("wait", timeout=0.5)
    assert (stopped["status"], stopped["exception"]["name"]) == ("timed_out", "Stopped")
    assert time.monotonic() - began < 20 and stopped["stdout"] == "waiting\n"
    refused = shout.run("hello", env={"A": "b"})
    assert refused["exception"]["name"] == "NotOffered"
    died = shout.run("end")
    assert died["status"] == "died" and "exit code 5" in died["detail"]


def test_no_flood_of_a_kernel_has_its_context_hang(shouting: Box) -> None:
    """It drops what is not read in time, and the words that its run is over may be among that."""
    done = Ctx(shouting, "ctx_shout").run("flood")
    assert done["status"] in ("ok", "lost")
    assert Ctx(shouting, "ctx_shout").run("quiet")["results"][-1]["text"] == "QUIET"


def test_a_kernel_ends_with_its_context(shouting: Box) -> None:
    made = Ctx.create(shouting, language="shout")
    made.run("lock")
    assert shouting.run("flock", "--nonblock", "/work/lock", "true")["process"]["exit_code"] == 1
    shouting.ok("DELETE", made.path)
    shouting.sh("flock --wait 20 /work/lock true")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"language": "cobol"}, "no kernelspec cobol in this image; it has: ir"),
        ({"language": "shout", "cwd": "/nowhere"}, "/nowhere"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_reason(
    shouting: Box, body: dict[str, str], said: str
) -> None:
    answer = shouting.ask("POST", "/contexts", json=body)
    assert answer.status_code == 422 and answer.json()["code"] == "context_unavailable"
    assert said in answer.json()["detail"]


def test_a_name_that_no_kernelspec_can_have_is_invalid(shouting: Box) -> None:
    for name in ("", "../x", "a b", "x" * 26):
        assert shouting.code("POST", "/contexts", json={"language": name}) == "invalid_request"
