"""Kernels that lie, flood, die and hang: the gateway bounds what they say, and nobody else notices."""

import time

import pytest

from tests.patience import PATIENCE
from tests.sandboxes.conftest import Box
from tests.sandboxes.test_contexts import Ctx

pytestmark = [pytest.mark.root, pytest.mark.service]

LINE = """
import os, gc, json
wire = next(o for o in gc.get_objects() if type(o).__name__ == "Wire")
def raw(data):
    while data:
        data = data[os.write(wire._out, data):]
def say(**event):
    raw(json.dumps({"run": wire.run, **event}).encode() + b"\\n")
"""


@pytest.fixture(scope="module")
def liar(box: Box) -> Ctx:
    """A context that has its own line to the gateway in its hands."""
    made = Ctx.create(box)
    assert made.run(LINE)["status"] == "ok"
    return made


def test_what_is_no_event_is_passed_over(liar: Ctx) -> None:
    done = liar.run(
        "raw(b'\\n\\xff\\xfe\\0\\n[]\\n{\"type\": \"nonsense\"}\\n' + b'[' * 100_000 + b'\\n')\n"
        "say(type='stdout'); say(type='stdout', text=5); say(type='result', main='x')\n"
        "say(type='problem'); print('still here')"
    )
    assert (done["status"], done["stdout"]) == ("ok", "still here\n")


def test_an_event_without_end_is_never_held(liar: Ctx) -> None:
    done = liar.run("raw(b'x' * (40 << 20)); raw(b'\\n'); print('after')")
    assert (done["status"], done["stdout"], done["truncated"]) == ("ok", "after\n", True)


def test_an_event_of_another_run_is_nobodys(liar: Ctx) -> None:
    done = liar.run('raw(b\'{"type":"stdout","run":"other","text":"theirs"}\\n\'); print(\'mine\')')
    assert done["stdout"] == "mine\n"


def test_a_run_ends_once(liar: Ctx) -> None:
    done = liar.run("say(type='end', of=wire.run, status='ok'); say(type='stdout', text='late')")
    assert done["status"] == "ok" and done.get("stdout", "") == ""
    assert liar.text("'next'") == "'next'"


def test_a_refusal_in_a_run_is_an_answer(liar: Ctx) -> None:
    body = {"code": "say(type='refused', reason='bad_cwd', detail='lie')"}
    assert liar.box.code("POST", f"{liar.path}/run", json=body) == "context_unavailable"
    assert liar.box.code("POST", f"{liar.path}/run", json={"code": "x" * (2 << 20)}) in (
        "invalid_request", "body_too_large",
    )  # fmt: skip


def test_results_are_capped_and_said_to_be(box: Box) -> None:
    made = Ctx.create(box)
    done = made.run("'y' * (3 << 20)")
    (value,) = done["results"]
    assert value["truncated"] == ["text"] and len(value["text"]) <= 1 << 20 and done["truncated"]
    done = made.run("from IPython.display import HTML; HTML('z' * (9 << 20))")
    assert done["results"][0]["truncated"] == ["html"] and "html" not in done["results"][0]
    done = made.run("for _ in range(4): display({'text/html': 'z' * (6 << 20)}, raw=True)")
    assert len(done["results"]) == 2 and done["truncated"]
    done = made.run("import sys\nfor _ in range(40): print('w' * 100_000)")
    assert done["truncated"] and len(done["stdout"]) == 1 << 20


def test_a_flood_waits_for_who_reads_it(box: Box) -> None:
    made = Ctx.create(box)
    with made.stream("while True: print('f' * 1000)") as events:
        for _ in range(20):
            next(events)
    begin = time.monotonic()  # its client has left: it is interrupted
    assert made.text("1 + 1") == "2"
    assert time.monotonic() - begin < 30 * PATIENCE


def test_what_does_not_heed_an_interrupt_is_given_up_and_restarted(fresh: Box) -> None:
    made = Ctx.create(fresh)
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(1)"
    done = made.run(deaf, timeout=0.2)
    assert done["status"] == "timed_out" and "not heeded" in done["detail"]
    made.box.ok("POST", f"{made.path}/restart")
    assert made.text("'new'") == "'new'"


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.kill(os.getpid(), 9)",
        "import ctypes; ctypes.string_at(0)",
        "import os; os.closerange(0, 1000)",
    ],
)
def test_the_end_of_an_interpreter_is_a_result(box: Box, code: str) -> None:
    default = Ctx(box, "ctx_python")
    default.run("old = 1")
    assert default.run(code)["status"] == "died"
    assert default.run("old")["exception"]["name"] == "NameError"


def test_what_a_context_survives(fresh: Box) -> None:
    made = Ctx.create(fresh)
    for code in (
        "import os; [os.fork() for _ in range(3)]; 1",
        "import os\nif not os.fork(): raise SystemExit\n1",
        "import threading as t\nfor _ in range(20): t.Thread(target=print, args=('t',)).start()\n1",
        "import asyncio; asyncio.get_event_loop().stop(); 1",
        "import asyncio; asyncio.get_event_loop().close(); 1",
        "import builtins; del builtins.print; 1",
        "import sys; sys.stdout = sys.stderr = None; 1",
        "import os; os.close(1); os.close(2); 1",
    ):
        assert made.run(code, timeout=20)["status"] == "ok", code
    assert made.text("'lives'") == "'lives'"
    fresh.kill()


def test_memory_that_is_not_there_ends_the_interpreter_alone(fresh: Box) -> None:
    made = Ctx.create(fresh)
    done = made.run("data = bytearray(900 << 20); 1", timeout=30)
    assert done["status"] in ("died", "error")
    assert fresh.sh("echo lives") == "lives\n"


def test_contexts_count_as_processes(fresh: Box) -> None:
    fresh.ok("PATCH", json={"limits": {"pids": 8}})
    answers = (fresh.ask("POST", "/contexts", json={}) for _ in range(9))
    refused = next(answer for answer in answers if not answer.is_success)
    assert refused.status_code in (422, 429, 503), refused.text
    fresh.ok("PATCH", json={"limits": {"pids": 128}})
    assert Ctx.create(fresh).text("1") == "1"
