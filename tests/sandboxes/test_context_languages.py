"""Contexts of other languages than Python: state, results, errors, interrupts, environment."""

import base64
import shutil
import time
from collections.abc import Iterator

import pytest

from tests.sandboxes.conftest import Box, Tenant
from tests.sandboxes.test_contexts import Ctx

pytestmark = [pytest.mark.root, pytest.mark.service]

PLAIN_R = "r without IRkernel"
ENDLESS = {
    "bash": ("while :; do :; done", "sleep 60"),
    "javascript": ("while (true) {}", "await new Promise(() => {})"),
    "r": ("while (TRUE) {}", "Sys.sleep(60)"),
}
ONE = {"bash": 'echo "$ONE"', "javascript": "console.log(process.env.ONE ?? '')",
       "r": 'cat(Sys.getenv("ONE"), "\\n", sep="")'}  # fmt: skip
WHERE = {
    "bash": "pwd",
    "javascript": "console.log(process.cwd())",
    "r": 'cat(getwd(), "\\n", sep="")',
}
FAILS = {
    "bash": ("ls /nowhere; (exit 7)", "ExitStatus", "7"),
    "javascript": ("throw new TypeError('odd')", "TypeError", "odd"),
    "r": ("stop('odd')", "ERROR", "Error in eval(expr, envir, enclos): odd\n"),
}
STATE = {"bash": ("x=5; f() { echo f$x; }", "f"), "javascript": ("const x = 5", "console.log('f' + x)"),
         "r": ("x <- 5", "cat('f', x, '\\n', sep='')")}  # fmt: skip


for _words in (ENDLESS, ONE, WHERE, STATE):
    _words[PLAIN_R] = _words["r"]  # type: ignore[index]
FAILS[PLAIN_R] = ("stop('odd')", "simpleError", "odd")


def without_jupyter(box: Box) -> str:
    """A directory for Python's path, by which a sandbox looks like one without `jupyter_client`."""
    box.sh("mkdir -p /work/without && echo 'raise ImportError' > /work/without/jupyter_client.py")
    return "/work/without"


@pytest.fixture(scope="module", params=["bash", "javascript", "r", PLAIN_R])
def context(request: pytest.FixtureRequest, ann: Tenant) -> Iterator[Ctx]:
    box = ann.create(env={"OF": "sandbox"})
    box.sh("mkdir /work/there")
    env = {"OWN": "context"}
    if request.param == PLAIN_R:
        env["PYTHONPATH"] = without_jupyter(box)
    made = Ctx.create(box, language=request.param.split()[0], cwd="/work/there", env=env)
    made.language = request.param  # type: ignore[attr-defined]
    yield made
    box.kill()


def test_a_language_keeps_its_state_and_takes_its_place(context: Ctx) -> None:
    language = context.language  # type: ignore[attr-defined]
    first, second = STATE[language]
    assert context.run(first)["status"] == "ok"
    assert context.run(second)["stdout"] == "f5\n"
    assert context.run(WHERE[language])["stdout"] == "/work/there\n"
    assert context.run(ONE[language], env={"ONE": 'it\'s "one" é'})["stdout"] == 'it\'s "one" é\n'
    assert context.run(ONE[language])["stdout"] == "\n"
    assert context.run(ONE[language].replace("ONE", "OWN"))["stdout"] == "context\n"
    assert context.run(ONE[language].replace("ONE", "OF"))["stdout"] == "sandbox\n"


def test_a_failure_is_an_exception(context: Ctx) -> None:
    code, name, value = FAILS[context.language]  # type: ignore[attr-defined]
    done = context.run(code)
    assert done["status"] == "error"
    assert (done["exception"]["name"], done["exception"]["value"]) == (name, value)


def test_an_interrupt_leaves_the_state(context: Ctx) -> None:
    language = context.language  # type: ignore[attr-defined]
    context.run(STATE[language][0])
    for code in ENDLESS[language]:
        begin = time.monotonic()
        done = context.run(code, timeout=0.4)
        assert done["status"] == "timed_out" and "detail" not in done, (code, done)
        assert time.monotonic() - begin < 20
    assert context.run(STATE[language][1])["stdout"] == "f5\n"


def test_code_of_any_size_and_kind(context: Ctx) -> None:
    language = context.language  # type: ignore[attr-defined]
    comment = "//" if language == "javascript" else "#"
    long = f"{comment} {'ü' * 200_000}\n{WHERE[language]}"
    assert context.run(long)["stdout"] == "/work/there\n"
    assert context.run("")["status"] == "ok"
    assert context.run("((")["status"] == "error"
    assert context.run(WHERE[language])["stdout"] == "/work/there\n"


def test_a_directory_that_is_none_is_refused(context: Ctx) -> None:
    language = context.language.split()[0]  # type: ignore[attr-defined]
    body = {"language": language, "cwd": "/nowhere"}
    assert context.box.code("POST", "/contexts", json=body) == "context_unavailable"


def test_r_shows_values_and_plots(box: Box) -> None:
    made = Ctx.create(box, language="r", env={"PYTHONPATH": without_jupyter(box)})
    done = made.run("1:3; y <- 2; invisible(3); 'last'; plot(1:2)")
    texts = [each["text"] for each in done["results"] if "text" in each]
    assert texts == ["[1] 1 2 3", '[1] "last"']
    (plot,) = [each["png"] for each in done["results"] if "png" in each]
    assert base64.b64decode(plot).startswith(b"\x89PNG")
    assert made.run("q()")["exception"]["value"].startswith("a context is ended")


def test_javascript_has_the_console_of_a_debugger(box: Box) -> None:
    default = Ctx(box, "ctx_javascript")
    assert default.text("const a = await Promise.resolve([1, {b: 2}]); a") == "[ 1, { b: 2 } ]"
    assert default.text("const a = 6; a * 7n ? 1 : 2".replace("7n", "7")) == "1"
    done = default.run("display({'text/html': '<b>x</b>'}); console.error('e'); undefined")
    assert done["results"][0]["html"] == "<b>x</b>" and done["stderr"] == "e\n"
    child = default.run("require('child_process').execSync('echo child; echo bad >&2').toString()")
    assert (child["results"][0]["text"], child["stderr"]) == ("'child\\n'", "bad\n")
    assert default.run("process.exit(0)")["exception"]["name"] == "Exit"
    assert default.run("setTimeout(() => { throw new Error('later') }, 10); 1")["status"] == "ok"
    time.sleep(0.3)
    assert default.text("a") == "6"


def test_a_shell_that_exits_is_followed_by_another(box: Box) -> None:
    default = Ctx(box, "ctx_bash")
    died = default.run("echo bye; exit 3")
    assert (died["status"], died["stdout"]) == ("died", "bye\n") and "exit code 3" in died["detail"]
    assert default.run("echo again")["stdout"] == "again\n"
    assert default.run('read line; echo "<$line>"')["stdout"] == "<>\n"


def test_the_end_of_the_sandbox_ends_what_runs(ann: Tenant) -> None:
    box = ann.create()
    with Ctx(box, "ctx_bash").stream("echo go; sleep 60") as events:
        assert next(e for e in events if e["type"] == "stdout")["text"] == "go\n"
        box.kill()
        last = list(events)[-1]
    assert last["type"] == "error" or last["status"] == "died"


@pytest.mark.skipif(shutil.which("javac") is None, reason="this host has no JDK")
def test_java_is_jshell(ann: Tenant) -> None:
    box = ann.create(limits={"memory": 1 << 30})
    made = Ctx.create(box, language="java", env={"OWN": "context"})
    assert made.run("int x = 5; int f(int n) { return n + x; }")["status"] == "ok"
    assert made.text("f(3)") == "8"
    assert made.run('System.out.println("é " + System.getenv("OWN"));')["stdout"] == "é context\n"
    thrown = made.run('throw new IllegalStateException("odd");')["exception"]
    assert (thrown["name"], thrown["value"]) == ("java.lang.IllegalStateException", "odd")
    assert made.run('int y = "s";')["exception"]["name"] == "SyntaxError"
    assert made.run("((")["exception"]["name"] == "SyntaxError"
    for code in ("while (true) {}", "Thread.sleep(60000);"):
        assert made.run(code, timeout=0.5)["status"] == "timed_out"
    assert made.text("var l = List.of(1, 2).stream().map(v -> v * x).toList();\nl") == "[5, 10]"
    box.kill()
