"""Programs of `tests/warm/java/Main.java`, each compared with a cold `java Main`. The variable MODE names
them, so that they need compiling once. Nothing is said of what they print."""

from typing import Any

from tests.warm.script import Script


def _s(mode: str, **more: Any) -> Script:
    env = {"MODE": mode, **more.pop("env", {})}
    return Script(id=f"java-{mode}", language="jvm", env=env, **more)


_BAD = {"status": "nonzero_exit"}

JAVA: list[Script] = [
    *map(_s, (
        "hello", "env-order", "properties", "arguments", "where", "empty", "much", "errors", "raw",
        "hook", "daemon", "pool", "overflow", "machine", "threads", "main-thread", "frames", "loaders",
        "files", "locale", "child", "child-java", "status", "limits", "descriptors",
    )),
    _s("env", env={"A": "1", "EMPTY": "", "WORD": "é"}),
    _s("letters", env={"WORD": "漢"}),
    _s("lines", stdin="one\n\ntwo é"),
    _s("scanner", stdin="40 2\n1.5"),
    _s("bytes", stdin=b"\0\xff\r\n"),
    _s("child-input", stdin="through"),
    _s("resource", files={"d/data.txt": "text", "large": "x" * 300_000}),
    *(_s(mode, **_BAD) for mode in (
        "exit", "halt", "throw", "handler", "heap", "other-class", "network", "hook-signal",
    )),
    _s("throw-thread"),
    _s("killed", status="signalled"),
    _s("memory", status="memory_exceeded", limits={"pids": 64}),
    _s("cpu", status="cpu_time_exceeded", limits={"cpu_time": 0.5, "wall_time": 20}),
    # What the machine has decided at its start: these begin cold.
    _s("arguments-given", env={"MODE": "arguments"}, args=("a", "é"), warm=False),
    _s("options", env={"MODE": "machine", "JAVA_TOOL_OPTIONS": "-Xmx64m"}, warm=False),
    _s("small", env={"MODE": "machine"}, limits={"memory": 268435456}, warm=False),
    # Chance.
    _s("chance", random=True, why="random numbers"),
]  # fmt: skip

DIFFERENT: list[Script] = [*map(_s, ("command-line", "environ", "agent"))]
"""What can be seen, each a row of `docs/warm.md`."""
