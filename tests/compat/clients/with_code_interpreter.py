"""The unmodified `e2b-code-interpreter` client, both of its halves; see `with_e2b`."""

import asyncio
import os
import sys
import threading
import time
from importlib.metadata import version

from e2b_code_interpreter import AsyncSandbox, NotFoundException, Sandbox, SandboxException
from table import Table

say = Table(f"e2b-code-interpreter {version('e2b-code-interpreter')}")
CHART = """
import matplotlib.pyplot as plt
plt.plot([1, 2, 3], [4, 5, 6], label="line")
plt.title("A title"); plt.xlabel("x"); plt.ylabel("y")
plt.show()
"""
BARS = "import matplotlib.pyplot as plt\nplt.bar(['a', 'b'], [1, 2]); plt.title('Bars'); plt.show()"
FRAME = "import pandas\npandas.DataFrame({'a': [1, 2], 'b': ['x', 'y']})"


def python(box: Sandbox) -> None:
    say.area = "run_code in Python"
    run = box.run_code
    say(
        "run_code",
        lambda: run("x = 20\nx * 2 + 2"),
        lambda e: (e.text, e.results[0].is_main_result) == ("42", True),
    )
    say("run_code state", lambda: run("x + 1").text, "21")
    say("run_code count", lambda: run("None").execution_count, 3)
    say("run_code stdout", lambda: "".join(run("print('a'); print('b')").logs.stdout), "a\nb\n")
    say(
        "run_code stderr",
        lambda: "".join(run("import sys; print('e', file=sys.stderr)").logs.stderr),
        "e\n",
    )
    error = say(
        "run_code error", lambda: run("1 / 0").error, lambda e: e.name == "ZeroDivisionError"
    )
    say("run_code traceback", lambda: "division by zero" in error.traceback, True)
    say("run_code after error", lambda: run("x").text, "20")
    say("run_code syntax error", lambda: run("def").error.name, "SyntaxError")
    say(
        "run_code await",
        lambda: run("import asyncio\nawait asyncio.sleep(0, 'slept')").text,
        "'slept'",
    )
    say("run_code display", lambda: len(run("display(1); display(2)").results), 2)
    say(
        "run_code html",
        lambda: run("from IPython.display import HTML\nHTML('<b>b</b>')").results[0].html,
        "<b>b</b>",
    )
    say(
        "run_code json",
        lambda: run("from IPython.display import JSON\nJSON({'a': 1})").results[0].json,
        {"a": 1},
    )
    say(
        "run_code markdown",
        lambda: run("from IPython.display import Markdown\nMarkdown('# t')").results[0].markdown,
        "# t",
    )
    say(
        "run_code latex",
        lambda: run("from IPython.display import Latex\nLatex('$x$')").results[0].latex,
        "$x$",
    )
    say("run_code cwd", lambda: run("import os; os.getcwd()").text, "'/home/user'")
    say("run_code envs", lambda: run("import os; os.environ['A']", envs={"A": "b"}).text, "'b'")
    say("run_code envs apart", lambda: run("os.environ.get('A', 'none')").text, "'none'")
    say(
        "run_code files",
        lambda: (run("open('made.txt', 'w').write('by code')"), box.files.read("made.txt"))[1],
        "by code",
    )
    say("run_code shell", lambda: "".join(run("!echo shell").logs.stdout).strip(), "shell")
    say("run_code unicode", lambda: run("'größe 🦊'").text, "'größe 🦊'")
    say("run_code empty", lambda: run("").results, [])
    heard: list[str] = []
    say(
        "run_code on_stdout",
        lambda: run("print(1)\nprint(2)", on_stdout=lambda m: heard.append(m.line)),
    )
    say("run_code heard", lambda: "".join(heard), "1\n2\n")
    results: list = []
    say("run_code on_result", lambda: (run("7", on_result=results.append), results[0].text)[1], "7")
    errors: list = []
    say(
        "run_code on_error",
        lambda: (run("boom", on_error=errors.append), errors[0].name)[1],
        "NameError",
    )
    say("run_code timestamp", lambda: _stamped(box), True)
    say(
        "run_code pandas",
        lambda: run(FRAME),
        lambda e: (
            "<table" in e.results[0].html and e.results[0].data == {"a": [1, 2], "b": ["x", "y"]}
        ),
    )


def _stamped(box: Sandbox) -> bool:
    stamps: list[int] = []
    box.run_code("print(1)", on_stdout=lambda message: stamps.append(message.timestamp))
    return abs(stamps[0] / 1e9 - time.time()) < 60


def charts(box: Sandbox) -> None:
    say.area = "charts"
    line = say(
        "run_code chart",
        lambda: box.run_code(CHART),
        lambda e: e.error is None and len(e.results) == 1,
    )
    shown = line.results[0]
    say("result.png", lambda: len(shown.png) > 1000, True)
    say("result.chart", lambda: (shown.chart.type.value, shown.chart.title), ("line", "A title"))
    say("chart labels", lambda: (shown.chart.x_label, shown.chart.y_label), ("x", "y"))
    say("chart points", lambda: shown.chart.elements[0].points, [(1, 4), (2, 5), (3, 6)])
    bars = say("run_code bars", lambda: box.run_code(BARS).results[0].chart)
    say(
        "chart bars",
        lambda: [(e.label, float(e.value)) for e in bars.elements],
        [("a", 1.0), ("b", 2.0)],
    )


def languages(box: Sandbox) -> None:
    say.area = "other languages"
    run = box.run_code
    say("run_code bash", lambda: "".join(run("A=5; echo $A", language="bash").logs.stdout), "5\n")
    say("run_code bash state", lambda: "".join(run("echo $A", language="bash").logs.stdout), "5\n")
    say("run_code js", lambda: run("let a = 6; a * 7", language="js").text, "42")
    say("run_code javascript state", lambda: run("a", language="javascript").text, "6")
    say("run_code R", lambda: run("x <- c(1, 4)\nmean(x)", language="r").text, "[1] 2.5")
    say(
        "run_code R again",
        lambda: [r.formats() for r in run("plot(x)\ndata.frame(x)", language="R").results],
        lambda shown: any("html" in each for each in shown) and any("png" in e for e in shown),
    )
    say.raises(
        "run_code cobol", lambda: run("x", language="cobol"), SandboxException, "no kernelspec"
    )


def contexts(box: Sandbox) -> None:
    say.area = "contexts"
    one = say(
        "create_code_context",
        lambda: box.create_code_context(cwd="/tmp"),
        lambda c: (c.cwd, c.language) == ("/tmp", "python"),
    )
    two = say("create_code_context other", lambda: box.create_code_context(language="python"))
    say("context cwd", lambda: box.run_code("import os; os.getcwd()", context=one).text, "'/tmp'")
    box.run_code("y = 1", context=one)
    say("contexts apart", lambda: box.run_code("y", context=two).error.name, "NameError")
    say(
        "list_code_contexts",
        lambda: {one.id, two.id} <= {c.id for c in box.list_code_contexts()},
        True,
    )
    say("restart_code_context", lambda: box.restart_code_context(one))
    say("context restarted", lambda: box.run_code("y", context=one).error.name, "NameError")
    say("remove_code_context", lambda: box.remove_code_context(two))
    say.raises("run_code removed", lambda: box.run_code("1", context=two), NotFoundException)
    say.raises(
        "remove_code_context unknown",
        lambda: box.remove_code_context("nonsense"),
        NotFoundException,
    )
    say("run_code interrupted", lambda: _interrupted(box), True)
    say(
        "run_code dead",
        lambda: box.run_code("import os; os._exit(3)", context=one).error.name,
        "InterpreterDied",
    )


def _interrupted(box: Sandbox) -> bool:
    """A client that gives up has its code interrupted: the next runs at once, with the state there."""
    box.run_code("z = 'kept'")
    try:
        box.run_code("import time; time.sleep(60)", timeout=0.5)
    except Exception as error:
        assert "timeout" in str(error).lower(), error
    return box.run_code("z").text == "'kept'"


def killed() -> None:
    say.area = "ends"
    box = Sandbox.create()
    box.run_code("1")
    threading.Timer(0.5, box.kill).start()
    say.raises("run_code killed", lambda: box.run_code("import time; time.sleep(60)"), Exception)
    say.raises("run_code after kill", lambda: box.run_code("1"), Exception, "not found")


async def asynchronous() -> None:
    say.area = "asynchronous"
    box = await say.wait("AsyncSandbox.create", lambda: AsyncSandbox.create(timeout=120))
    await say.wait("run_code", lambda: box.run_code("1 + 1"), lambda e: e.text == "2")
    await say.wait(
        "run_code error",
        lambda: box.run_code("1 / 0"),
        lambda e: e.error.name == "ZeroDivisionError",
    )
    context = await say.wait("create_code_context", lambda: box.create_code_context())
    await say.wait(
        "run_code context",
        lambda: box.run_code("a = 1\na", context=context),
        lambda e: e.text == "1",
    )
    await say.wait(
        "list_code_contexts", box.list_code_contexts, lambda x: context.id in [c.id for c in x]
    )
    await say.wait("remove_code_context", lambda: box.remove_code_context(context))
    heard: list = []
    await say.wait("run_code on_stdout", lambda: box.run_code("print('x')", on_stdout=heard.append))
    await say.wait("run_code heard", lambda: asyncio.sleep(0, [m.line for m in heard]), ["x\n"])
    await say.wait("kill", box.kill, True)


def main() -> int:
    box = Sandbox.create(timeout=300)
    try:
        python(box)
        if box.run_code("import matplotlib").error is None:
            charts(box)
        languages(box)
        contexts(box)
    finally:
        box.kill()
    killed()
    asyncio.run(asynchronous())
    return say.finish(os.environ.get("COMPAT_TABLE"))


if __name__ == "__main__":
    sys.exit(main())
