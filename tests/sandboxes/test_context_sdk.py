"""The SDK's contexts against a real service, blocking and asyncio."""

import pytest
from sandboxd_client import (
    AsyncClient,
    AsyncSandbox,
    CodeError,
    CodeValue,
    Output,
    RequestError,
    Sandbox,
)

from tests.sandboxes.conftest import KEYS
from tests.service.instance import Service

pytestmark = [pytest.mark.root, pytest.mark.service]


def test_a_context_is_an_interpreter_that_keeps_its_state(sandbox: Sandbox) -> None:
    heard: list[str] = []
    values: list[CodeValue] = []
    with sandbox.context() as context:
        assert context.run("x = 41").ok
        done = context.run("print('is', x)\nx + 1", on_stdout=heard.append, on_value=values.append)
        assert (done.text, done.stdout, done.execution_count) == ("42", "is 41\n", 2)
        assert "".join(heard) == done.stdout and [value.text for value in values] == ["42"]
        failed = context.run("1 / 0")
        assert not failed.ok and failed.error is not None
        assert (failed.error.name, failed.error.value) == ("ZeroDivisionError", "division by zero")
        pieces = list(context.stream("print('a'); display('b'); raise KeyError('c')"))
        kinds = [type(piece) for piece in pieces]
        assert kinds == [Output, CodeValue, CodeError]
        late = context.run("import time; time.sleep(60)", timeout=0.2)
        assert late.status == "timed_out"
        context.restart()
        assert context.run("x").status == "error"
        assert [info.id for info in sandbox.contexts.list()] == [context.id]
    assert sandbox.contexts.list() == []
    with pytest.raises(RequestError) as gone:
        sandbox.contexts.get("ctx_" + "a" * 26)
    assert gone.value.code == "not_found"


def test_pictures_are_bytes(sandbox: Sandbox) -> None:
    done = sandbox.contexts.default().run(
        "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()"
    )
    (shown,) = done.values
    assert shown.png is not None and shown.png.startswith(b"\x89PNG")
    assert shown.chart is not None and shown.chart["type"] == "line"
    assert set(shown.formats) == {"text", "png", "chart"}


def test_languages_beside_python(sandbox: Sandbox) -> None:
    bash = sandbox.context("bash", env={"NAME": "ann"})
    assert bash.run("cd /tmp; x=$NAME").ok
    assert bash.run("echo $x in $PWD").stdout == "ann in /tmp\n"
    assert bash.run("false").error == CodeError(name="ExitStatus", value="1", traceback="")
    javascript = sandbox.contexts.default("javascript")
    assert javascript.run("const x = await Promise.resolve(20)").ok
    assert javascript.run("x * 2").text == "40"


async def test_the_same_for_asyncio(served: Service) -> None:
    async with (
        AsyncClient(served.url, KEYS["ann"]) as client,
        await AsyncSandbox.create(client=client) as sandbox,
        await sandbox.context() as context,
    ):
        assert (await context.run("y = 2\ny")).text == "2"
        pieces = [piece async for piece in context.stream("print(y)")]
        assert pieces == [Output("stdout", b"2\n")]
