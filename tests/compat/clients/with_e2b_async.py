"""The unmodified `e2b` client, by its asynchronous half; see `with_e2b`."""

import asyncio
import os
import sys
from importlib.metadata import version

from e2b import (
    AsyncSandbox,
    CommandExitException,
    FileNotFoundException,
    InvalidArgumentException,
    NotFoundException,
    PtySize,
    SandboxQuery,
    SandboxState,
    TimeoutException,
)
from e2b.exceptions import SandboxNotFoundException
from e2b.sandbox.filesystem.watch_handle import FilesystemEventType
from table import Table

say = Table(f"e2b {version('e2b')}, asynchronous")


async def until(ready, seconds: float = 10.0) -> bool:
    try:
        async with asyncio.timeout(seconds):
            while not (found := ready()) and not (asyncio.iscoroutine(found) and await found):
                await asyncio.sleep(0.02)
    except TimeoutError:
        return False
    return True


async def commands(box: AsyncSandbox) -> None:
    say.area = "commands"
    run = box.commands.run
    await say.wait("commands.run", lambda: run("echo hi"), lambda r: r.stdout == "hi\n")
    await say.wait(
        "commands.run envs", lambda: run("echo $A", envs={"A": "b"}), lambda r: r.stdout == "b\n"
    )
    await say.fails("commands.run exit 3", lambda: run("exit 3"), CommandExitException, "3")
    await say.fails("commands.run timeout", lambda: run("sleep 30", timeout=0.5), TimeoutException)
    many = await say.wait(
        "commands.run together", lambda: asyncio.gather(*(run(f"echo {n}") for n in range(10)))
    )
    await say.wait(
        "commands.run apart",
        lambda: asyncio.sleep(0, [r.stdout for r in many]),
        [f"{n}\n" for n in range(10)],
    )
    heard: list[str] = []
    await say.wait(
        "commands.run on_stdout", lambda: run("echo a; echo b >&2", on_stdout=heard.append)
    )
    await say.wait("commands.run heard", lambda: asyncio.sleep(0, heard), ["a\n"])
    handle = await say.wait(
        "commands.run background", lambda: run("cat", background=True, stdin=True)
    )
    await say.wait("commands.list", box.commands.list, lambda x: handle.pid in [p.pid for p in x])
    await say.wait("commands.send_stdin", lambda: box.commands.send_stdin(handle.pid, "one\n"))
    stream = box.commands.stream_input(handle.pid)
    await say.wait("stream_input.send", lambda: stream.send("two\n"))
    await say.wait("stream_input.send later", lambda: stream.send(b"three\n"))
    await say.wait("stream_input.close", stream.close)
    await say.wait("commands.close_stdin", lambda: box.commands.close_stdin(handle.pid))
    await say.wait("handle.wait", handle.wait, lambda r: r.stdout == "one\ntwo\nthree\n")
    sleeper = await run("sleep 60", background=True)
    again = await say.wait("commands.connect", lambda: box.commands.connect(sleeper.pid))
    await say.wait("handle.kill", sleeper.kill, True)
    await say.fails("handle.wait killed", again.wait, CommandExitException)
    await say.wait("commands.kill unknown", lambda: box.commands.kill(99999), False)
    await say.fails(
        "commands.connect unknown", lambda: box.commands.connect(99999), NotFoundException
    )


async def pty(box: AsyncSandbox) -> None:
    say.area = "terminals"
    seen = bytearray()
    terminal = await say.wait(
        "pty.create", lambda: box.pty.create(PtySize(rows=24, cols=80), on_data=seen.extend)
    )
    await say.wait("pty.send_stdin", lambda: box.pty.send_stdin(terminal.pid, b"stty size\n"))
    await say.wait("pty output", lambda: until(lambda: b"24 80" in seen), True)
    await say.wait("pty.resize", lambda: box.pty.resize(terminal.pid, PtySize(rows=30, cols=100)))
    await say.wait("pty.send_stdin more", lambda: box.pty.send_stdin(terminal.pid, b"stty size\n"))
    await say.wait("pty resized", lambda: until(lambda: b"30 100" in seen), True)
    await say.wait("pty.kill", lambda: box.pty.kill(terminal.pid), True)


async def files(box: AsyncSandbox) -> None:
    say.area = "files and directories"
    f = box.files
    await say.wait(
        "files.write", lambda: f.write("a.txt", "hello"), lambda w: w.path == "/home/user/a.txt"
    )
    await say.wait("files.read", lambda: f.read("a.txt"), "hello")
    await say.wait("files.read bytes", lambda: f.read("a.txt", format="bytes"), b"hello")
    await say.wait("files.read stream", lambda: _joined(f), b"hello")
    await say.wait("files.write gzip", lambda: f.write("g.txt", "x" * 10000, gzip=True))
    await say.wait("files.read gzip", lambda: f.read("g.txt", gzip=True), "x" * 10000)
    await say.wait(
        "files.write chunks", lambda: f.write("c.bin", _chunks()), lambda w: w.name == "c.bin"
    )
    await say.wait("files.get_info", lambda: f.get_info("c.bin"), lambda i: i.size == 3 * 65536)
    await say.wait(
        "files.write_files",
        lambda: f.write_files([{"path": "m/1", "data": "1"}, {"path": "m/2", "data": b"2"}]),
        lambda x: len(x) == 2,
    )
    await say.wait("files.list", lambda: f.list("m"), lambda x: [e.name for e in x] == ["1", "2"])
    await say.wait("files.make_dir", lambda: f.make_dir("d"), True)
    await say.wait("files.make_dir again", lambda: f.make_dir("d"), False)
    await say.wait(
        "files.rename",
        lambda: f.rename("a.txt", "d/b.txt"),
        lambda e: e.path == "/home/user/d/b.txt",
    )
    await say.wait("files.exists", lambda: f.exists("d/b.txt"), True)
    await say.wait("files.remove", lambda: f.remove("d"))
    await say.wait("files.exists removed", lambda: f.exists("d"), False)
    await say.fails("files.read missing", lambda: f.read("missing"), FileNotFoundException)
    await say.fails("files.list missing", lambda: f.list("missing"), FileNotFoundException)
    await say.fails("files.list file", lambda: f.list("g.txt"), InvalidArgumentException)


async def _joined(f) -> bytes:
    return b"".join([chunk async for chunk in await f.read("a.txt", format="stream")])


async def _chunks():
    for _ in range(3):
        yield b"\0" * 65536


async def watching(box: AsyncSandbox) -> None:
    say.area = "watching"
    await box.files.make_dir("w")
    events: list = []
    ended: list = []
    handle = await say.wait(
        "files.watch_dir",
        lambda: box.files.watch_dir(
            "w", on_event=events.append, on_exit=ended.append, recursive=True
        ),
    )
    await box.files.write("w/n.txt", "1")
    await box.files.rename("w/n.txt", "w/o.txt")
    await box.files.remove("w/o.txt")
    await say.wait(
        "watch events",
        lambda: until(lambda: any(e.type is FilesystemEventType.REMOVE for e in events)),
        True,
    )
    kinds = {(e.name, e.type) for e in events}
    await say.wait(
        "watch create",
        lambda: asyncio.sleep(0, ("n.txt", FilesystemEventType.CREATE) in kinds),
        True,
    )
    await say.wait(
        "watch rename",
        lambda: asyncio.sleep(0, ("n.txt", FilesystemEventType.RENAME) in kinds),
        True,
    )
    await say.wait("watch.stop", handle.stop)
    await say.wait("watch on_exit", lambda: asyncio.sleep(0, ended), [None])
    await say.fails(
        "files.watch_dir missing",
        lambda: box.files.watch_dir("no", on_event=print),
        FileNotFoundException,
    )


async def life() -> None:
    say.area = "life"
    box = await say.wait(
        "AsyncSandbox.create", lambda: AsyncSandbox.create(timeout=60, metadata={"a": "sync"})
    )
    await say.wait("is_running", box.is_running, True)
    await say.wait("get_info", box.get_info, lambda i: i.metadata == {"a": "sync"})
    await say.wait("set_timeout", lambda: box.set_timeout(120))
    await say.wait(
        "AsyncSandbox.list",
        lambda: AsyncSandbox.list(query=SandboxQuery(metadata={"a": "sync"})).next_items(),
        lambda x: box.sandbox_id in [i.sandbox_id for i in x],
    )
    await say.wait("get_metrics", box.get_metrics, lambda m: len(m) >= 1)
    await box.files.write("kept", "kept")
    await say.wait("pause", box.pause, True)
    await say.wait("pause again", box.pause, False)
    await say.wait("get_info paused", box.get_info, lambda i: i.state is SandboxState.PAUSED)
    same = await say.wait("AsyncSandbox.connect", lambda: AsyncSandbox.connect(box.sandbox_id))
    await say.wait("files after connect", lambda: same.files.read("kept"), "kept")
    forks = await say.wait("fork", lambda: box.fork(count=1), lambda x: len(x) == 1)
    await say.wait("fork files", lambda: forks[0].files.read("kept"), "kept")
    await say.wait("fork kill", forks[0].kill, True)
    running = await box.commands.run("sleep 60", background=True)
    waiting = asyncio.create_task(running.wait())
    await say.wait("kill", box.kill, True)
    await say.fails("killed while it runs", lambda: waiting, TimeoutException)
    await say.wait("kill again", box.kill, False)
    await say.fails(
        "commands.run killed", lambda: box.commands.run("true"), TimeoutException, "was not found"
    )
    await say.fails(
        "AsyncSandbox.connect killed",
        lambda: AsyncSandbox.connect(box.sandbox_id),
        SandboxNotFoundException,
    )


async def main() -> int:
    box = await AsyncSandbox.create(timeout=300)
    try:
        for part in (commands, pty, files, watching):
            await part(box)
    finally:
        await box.kill()
    await life()
    return say.finish(os.environ.get("COMPAT_TABLE"))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
