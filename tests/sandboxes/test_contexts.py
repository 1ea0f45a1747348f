"""Contexts over plain HTTP, against a real service: what code does is told in order, and state stays."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.sandboxes.conftest import Box, Tenant

pytestmark = [pytest.mark.root, pytest.mark.service]

NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture(scope="module")
def python(box: Box) -> "Ctx":
    return Ctx.create(box)


class Ctx:
    """One context of a sandbox."""

    def __init__(self, box: Box, name: str) -> None:
        self.box, self.id = box, name
        self.path = f"/contexts/{name}"

    @classmethod
    def create(cls, box: Box, **body: Any) -> "Ctx":
        return cls(box, box.ok("POST", "/contexts", json=body)["id"])

    def run(self, code: str, **more: Any) -> Any:
        return self.box.ok("POST", f"{self.path}/run", json={"code": code, **more})

    def text(self, code: str, **more: Any) -> str:
        """Of the last expression's value."""
        done = self.run(code, **more)
        assert done["status"] == "ok", done
        return str(done["results"][-1]["text"])

    def events(self, code: str, **more: Any) -> list[dict[str, Any]]:
        with self.stream(code, **more) as lines:
            return list(lines)

    @contextmanager
    def stream(self, code: str, **more: Any) -> Iterator[Iterator[dict[str, Any]]]:
        url = f"{self.box.path}{self.path}/run"
        with self.box.tenant.http.stream(
            "POST", url, json={"code": code, **more}, headers=NDJSON
        ) as answer:
            assert answer.is_success, answer.read()
            yield (json.loads(line) for line in answer.iter_lines() if line)


def test_state_stays_and_the_last_value_is_the_result(python: Ctx) -> None:
    assert python.run("x = 20")["status"] == "ok"
    done = python.run("print('x is', x)\nx + 1")
    assert done["stdout"] == "x is 20\n"
    assert [(r["text"], r["main"]) for r in done["results"]] == [("21", True)]
    assert done["execution_count"] == 2


def test_events_come_in_the_order_in_which_they_happened(python: Ctx) -> None:
    code = (
        "import sys, os\nprint('one')\nprint('two', file=sys.stderr)\nos.system('echo three')\n"
        "display('four')\nprint('five')\nraise ValueError('six')"
    )
    told = python.events(code)
    seen = [(e["type"], e.get("text", e.get("value", e.get("status")))) for e in told]
    assert seen[1:] == [
        ("stdout", "one\n"), ("stderr", "two\n"), ("stdout", "three\n"), ("result", "'four'"),
        ("stdout", "five\n"), ("exception", "six"), ("end", "error"),
    ]  # fmt: skip
    assert told[0]["type"] == "started"
    assert told[-2]["name"] == "ValueError" and "raise ValueError" in told[-2]["traceback"]


def test_await_at_the_top_and_loops_of_its_own(python: Ctx) -> None:
    assert python.text("import asyncio\nawait asyncio.sleep(0.01, 'awaited')") == "'awaited'"
    assert python.text("asyncio.run(asyncio.sleep(0, 'ran'))") == "'ran'"
    python.run(
        "flag = []\nasync def later():\n    flag.append(1)\nt = asyncio.create_task(later())"
    )
    assert (
        python.text("t = asyncio.get_event_loop().create_task(later()); await t; len(flag)") >= "1"
    )


def test_output_is_heard_while_code_runs(python: Ctx) -> None:
    begin = time.monotonic()
    with python.stream("import time\nprint('now', flush=True)\ntime.sleep(2)") as events:
        heard = next(e for e in events if e["type"] == "stdout")
        assert heard["text"] == "now\n" and time.monotonic() - begin < 1.9
        assert list(events)[-1]["status"] == "ok"


def test_rich_results(python: Ctx) -> None:
    done = python.run(
        "from IPython.display import *\ndisplay(HTML('<b>b</b>'), Markdown('*m*'), Latex('$x$'), SVG("
        "'<svg xmlns=\"http://www.w3.org/2000/svg\"/>'), Javascript('1'), JSON({'a': [1]}))\n"
        "display({'application/x-mine': 'raw'}, raw=True)"
    )
    found = {name for result in done["results"] for name in result} - {"type", "text"}
    assert found == {"html", "markdown", "latex", "svg", "javascript", "json", "extra"}
    assert done["results"][-1]["extra"] == {"application/x-mine": "raw"}
    assert next(r["json"] for r in done["results"] if "json" in r) == {"a": [1]}


def test_a_data_frame_is_a_table_and_data(python: Ctx) -> None:
    done = python.run(
        "import pandas as pd\npd.DataFrame({'n': [1, 2.5], 't': pd.to_datetime(['2024-01-02', None])})"
    )
    result = done["results"][0]
    assert "<table" in result["html"]
    assert result["data"] == {"n": [1.0, 2.5], "t": ["2024-01-02T00:00:00", None]}


def test_an_interrupt_ends_the_run_and_leaves_the_state(python: Ctx) -> None:
    python.run("kept = 7")
    for code in ("import time; time.sleep(60)", "import asyncio; await asyncio.sleep(60)",
                 "!sleep 60", "while True: pass"):  # fmt: skip
        with python.stream(f"print('go', flush=True)\n{code}") as events:
            assert next(e for e in events if e["type"] == "stdout")["text"] == "go\n"
            python.box.ok("POST", f"{python.path}/interrupt")
            *_, raised, end = events
        assert (raised["type"], raised["name"]) == ("exception", "KeyboardInterrupt"), code
        assert end["status"] == "interrupted"
    assert python.text("kept") == "7"


def test_a_run_that_takes_too_long_is_interrupted(python: Ctx) -> None:
    done = python.run("import time; time.sleep(60)", timeout=0.3)
    assert done["status"] == "timed_out" and done["exception"]["name"] == "KeyboardInterrupt"


def test_a_client_that_leaves_has_its_run_interrupted(python: Ctx) -> None:
    with python.stream("import time\nleft = 'no'\nprint('go', flush=True)\ntry: time.sleep(60)\n"
                       "except KeyboardInterrupt: left = 'interrupted'") as events:  # fmt: skip
        next(e for e in events if e["type"] == "stdout")
    begin = time.monotonic()
    assert python.text("left") == "'interrupted'"
    assert time.monotonic() - begin < 20


def test_runs_of_several_clients_take_turns_and_hear_their_own(python: Ctx) -> None:
    python.run("count = 0")
    outcomes: list[Any] = []

    def one(number: int) -> None:
        with httpx.Client(base_url=python.box.tenant.service.url, timeout=60) as http:
            code = f"count += 1\nfor _ in range(50): print({number})"
            done = http.post(
                f"{python.box.path}{python.path}/run", json={"code": code},
                headers=python.box.tenant.headers,
            ).json()  # fmt: skip
            outcomes.append((done["status"], set(done["stdout"].split())))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes, key=str) == [("ok", {str(n)}) for n in range(6)]
    assert python.text("count") == "6"


def test_nobody_answers_input(python: Ctx) -> None:
    done = python.run("input('name? ')")
    assert done["exception"]["name"] == "RuntimeError" and "input()" in done["exception"]["value"]
    assert python.run("import sys; sys.stdin.readline()")["status"] == "error"


def test_packages_cannot_be_had_without_a_network(python: Ctx) -> None:
    done = python.run("%pip install something")
    assert done["status"] == "error" and "no network" in done["exception"]["value"]


def test_environment_and_directory(box: Box) -> None:
    box.sh("mkdir -p /work/there && echo 'inside = 5' > /work/there/near.py")
    made = Ctx.create(box, cwd="/work/there", env={"ITS": "own"})
    assert made.text("import os, near\nos.getcwd(), os.environ['ITS'], near.inside") == (
        "('/work/there', 'own', 5)"
    )
    assert made.text("os.environ['ONE']", env={"ONE": "run"}) == "'run'"
    assert made.text("repr(os.environ.get('ONE'))") == "'None'"
    box.ok("DELETE", made.path)


def test_life_of_a_context(box: Box) -> None:
    made = Ctx.create(box)
    listed = {each["id"]: each for each in box.ok("GET", "/contexts")["contexts"]}
    assert listed[made.id]["language"] == "python" and listed[made.id]["cwd"] == "/work"
    assert made.id not in {each["id"] for each in box.ok("GET", "/processes")["processes"]}
    made.run("x = 1")
    assert box.ok("POST", f"{made.path}/restart")["id"] == made.id
    assert made.run("x")["exception"]["name"] == "NameError"
    box.ok("DELETE", made.path)
    assert made.id not in {each["id"] for each in box.ok("GET", "/contexts")["contexts"]}
    assert box.code("POST", f"{made.path}/run", json={"code": "1"}) in ("conflict", "not_found")


def test_a_default_context_is_there_when_it_is_asked_for(fresh: Box) -> None:
    default = Ctx(fresh, "ctx_python")
    default.run("y = 3")
    assert default.text("y") == "3"
    died = default.run("import os; os._exit(4)")
    assert died["status"] == "died" and "exit code 4" in died["detail"]
    assert default.run("y")["exception"]["name"] == "NameError"


def test_what_was_left_out_to_begin_sooner_is_there_for_who_asks(python: Ctx) -> None:
    loaded = "import sys; {'jedi', 'prompt_toolkit', 'IPython.terminal'} & set(sys.modules)"
    assert python.text(loaded) == "set()"
    asked = "import jedi, IPython\nfrom IPython.terminal.embed import embed\n"
    assert python.text(f"{asked}jedi.__name__, embed is not IPython.embed") == "('jedi', True)"


def test_what_cannot_be_is_said(box: Box, bob: Tenant) -> None:
    assert box.code("POST", "/contexts", json={"language": "cobol"}) == "context_unavailable"
    assert box.code("POST", "/contexts", json={"language": "co bol"}) == "invalid_request"
    assert box.code("POST", "/contexts", json={"cwd": "/nowhere"}) == "context_unavailable"
    nobody = "/contexts/ctx_" + "a" * 26
    assert box.code("POST", f"{nobody}/run", json={"code": "1"}) == "not_found"
    assert box.code("POST", f"{nobody}/interrupt") == "not_found"
    theirs = bob.box(box.id)
    assert theirs.code("POST", "/contexts/ctx_python/run", json={"code": "1"}) == "not_found"
    assert theirs.code("GET", "/contexts") == "not_found"


def test_an_image_without_ipython_says_so(fresh: Box) -> None:
    fresh.sh("mkdir less && echo 'raise ImportError(\"no IPython here\")' > less/IPython.py")
    answer = fresh.ask("POST", "/contexts", json={"env": {"PYTHONPATH": "/work/less"}})
    assert answer.status_code == 422 and answer.json()["code"] == "context_unavailable"
    assert answer.json()["field"] == "language" and "no IPython here" in answer.json()["detail"]
    broken = fresh.ask("POST", "/contexts", json={"env": {"PYTHONHOME": "/nowhere"}})
    assert broken.json()["code"] == "context_unavailable" and "exit code" in broken.json()["detail"]
    missing = fresh.ask("POST", "/contexts", json={"env": {"PATH": "/work"}, "language": "bash"})
    assert missing.json()["code"] == "context_unavailable"


def test_files_of_the_working_directory_are_the_programs_alone(fresh: Box) -> None:
    fresh.sh("echo 'x = 5' > json.py; echo 'x = 6' > mine.py")
    assert Ctx.create(fresh).text("import mine; mine.x") == "6"


def test_a_pause_keeps_a_context_and_a_run_wakes_it(fresh: Box) -> None:
    made = Ctx.create(fresh)
    made.run("kept = 'through'")
    fresh.ok("POST", "/pause")
    assert made.text("kept") == "'through'"
