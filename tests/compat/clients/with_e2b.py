"""The unmodified `e2b` client, by its blocking half: what a program of its users does, call by call.

Run with E2B_API_KEY, E2B_API_URL and E2B_SANDBOX_URL, in an environment that has the client. Each call is
held against what E2B's own service answers.
"""

import io
import os
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import httpx
from e2b import (
    AuthenticationException,
    BuildException,
    CommandExitException,
    FileNotFoundException,
    InvalidArgumentException,
    NotFoundException,
    PtySize,
    Sandbox,
    SandboxException,
    SandboxQuery,
    SandboxState,
    Template,
    TimeoutException,
    Volume,
)
from e2b.exceptions import SandboxNotFoundException, VolumeException
from e2b.sandbox.filesystem.filesystem import FileType
from e2b.sandbox.filesystem.watch_handle import FilesystemEventType
from table import Table

UNKNOWN = "sbx-" + "a" * 26
ONCE = f"compat-{os.getpid()}-{int(time.time())}"
say = Table(f"e2b {version('e2b')}, blocking")


def commands(box: Sandbox) -> None:
    say.area = "commands"
    run = box.commands.run
    say("commands.run", lambda: run("echo hi"), lambda r: (r.stdout, r.exit_code) == ("hi\n", 0))
    say("commands.run stderr", lambda: run("echo no >&2").stderr, "no\n")
    say("commands.run home", lambda: run("pwd").stdout, "/home/user\n")
    say("commands.run user", lambda: run("whoami").stdout, "user\n")
    say(
        "commands.run root",
        lambda: run("echo $USER $HOME; id -u", user="root").stdout,
        "root /root\n0\n",
    )
    say("commands.run sudo", lambda: run("sudo -n id -u; id -u").stdout, "0\n1000\n")
    say("commands.run sudo -u", lambda: run("sudo sudo -u user id -un").stdout, "user\n")
    say("commands.run sudo useradd", lambda: run("sudo useradd eve && id -u eve").stdout, "1001\n")
    say("files.write root", lambda: box.files.write("/etc/r", "r", user="root").path, "/etc/r")
    say("files owner", lambda: box.files.get_info("/etc/r").owner, "root")
    say.raises("files.read root", lambda: box.files.read("r", user="root"), NotFoundException)
    say(
        "files of root",
        lambda: run("echo x > /etc/r 2>&1 || cat /etc/r").stdout.endswith("r"),
        True,
    )
    say("commands.run cwd", lambda: run("pwd", cwd="/tmp").stdout, "/tmp\n")
    say(
        "commands.run relative cwd",
        lambda: run("mkdir -p sub && cd sub && pwd").stdout,
        "/home/user/sub\n",
    )
    say("commands.run envs", lambda: run("echo $A", envs={"A": "1 2"}).stdout, "1 2\n")
    say("commands.run unicode", lambda: run("printf 'größe 🦊'").stdout, "größe 🦊")
    say("commands.run pipes", lambda: run("seq 100000 | tail -1").stdout, "100000\n")
    say(
        "commands.run large output",
        lambda: len(run("head -c 3000000 /dev/zero | tr '\\0' x").stdout),
        3000000,
    )
    say.raises("commands.run exit 3", lambda: run("exit 3"), CommandExitException, "3")
    say.raises(
        "commands.run unknown user", lambda: run("true", user="eve"), AuthenticationException
    )
    say.raises(
        "commands.run missing cwd", lambda: run("true", cwd="/nowhere"), InvalidArgumentException
    )
    say.raises("commands.run timeout", lambda: run("sleep 30", timeout=0.5), TimeoutException)
    heard: list[str] = []
    say("commands.run on_stdout", lambda: run("echo a; sleep .1; echo b", on_stdout=heard.append))
    say("commands.run heard", lambda: "".join(heard), "a\nb\n")


def background(box: Sandbox) -> None:
    say.area = "background commands and stdin"
    run = box.commands.run
    sleeper = say(
        "commands.run background", lambda: run("sleep 60", background=True), lambda h: h.pid > 0
    )
    listed = say("commands.list", box.commands.list, lambda x: sleeper.pid in [p.pid for p in x])
    say("commands.list args", lambda: listed[0].args[-1], "sleep 60")
    say("commands.kill", lambda: box.commands.kill(sleeper.pid), True)
    say.raises("handle.wait killed", sleeper.wait, CommandExitException)
    say("commands.kill again", lambda: box.commands.kill(sleeper.pid), False)
    say("commands.kill unknown", lambda: box.commands.kill(99999), False)
    reader = say("commands.run stdin", lambda: run("cat", background=True, stdin=True, timeout=10))
    say("commands.send_stdin", lambda: box.commands.send_stdin(reader.pid, "one\n"))
    say("handle.send_stdin bytes", lambda: reader.send_stdin(b"two\n"))
    say(
        "commands.stream_input",
        lambda: box.commands.stream_input(reader.pid, ["three\n", b"four\n"]),
    )
    say("commands.close_stdin", lambda: box.commands.close_stdin(reader.pid))
    say("handle.wait", lambda: reader.wait().stdout, "one\ntwo\nthree\nfour\n")
    say.raises(
        "commands.send_stdin ended",
        lambda: box.commands.send_stdin(reader.pid, "x"),
        NotFoundException,
    )
    say("commands.run no stdin", lambda: run("cat; echo end").stdout, "end\n")
    later = run("sleep .5; echo late", background=True)
    joined = say("commands.connect", lambda: box.commands.connect(later.pid))
    say("commands.connect wait", lambda: joined.wait().stdout, "late\n")
    say("handle.disconnect", later.disconnect)
    say.raises("commands.connect unknown", lambda: box.commands.connect(99999), NotFoundException)
    iterated = run("echo 1; echo 2", background=True)
    say("handle iteration", lambda: "".join(out for out, _, _ in iterated if out), "1\n2\n")


def pty(box: Sandbox) -> None:
    say.area = "terminals"
    seen = bytearray()
    terminal = say("pty.create", lambda: box.pty.create(PtySize(rows=24, cols=80), timeout=20))
    reading = threading.Thread(target=lambda: _read(terminal, seen), daemon=True)
    reading.start()
    say("pty.send_stdin", lambda: box.pty.send_stdin(terminal.pid, b"echo t$((1+1))t; stty size\n"))
    say("pty output", lambda: _until(lambda: b"t2t" in seen and b"24 80" in seen), True)
    say("pty.resize", lambda: box.pty.resize(terminal.pid, PtySize(rows=30, cols=100)))
    say("pty.stream_input", lambda: box.pty.stream_input(terminal.pid, [b"stty ", b"size\n"]))
    say("pty resized", lambda: _until(lambda: b"30 100" in seen), True)
    say("pty.connect", lambda: box.pty.connect(terminal.pid).pid, terminal.pid)
    say("pty.kill", lambda: box.pty.kill(terminal.pid), True)
    reading.join(10)
    say("pty.kill again", lambda: box.pty.kill(terminal.pid), False)


def _read(terminal, seen: bytearray) -> None:
    try:
        for _, _, data in terminal:
            if data:
                seen.extend(data)
    except CommandExitException:
        return


def _until(ready, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if ready():
            return True
        time.sleep(0.02)
    return False


def files(box: Sandbox) -> None:
    say.area = "files"
    f = box.files
    say(
        "files.write",
        lambda: f.write("a.txt", "hello"),
        lambda w: (w.name, w.path, w.type) == ("a.txt", "/home/user/a.txt", FileType.FILE),
    )
    say("files.read", lambda: f.read("a.txt"), "hello")
    say("files.read absolute", lambda: f.read("/home/user/a.txt"), "hello")
    say("files.read bytes", lambda: bytes(f.read("a.txt", format="bytes")), b"hello")
    say("files.read stream", lambda: b"".join(f.read("a.txt", format="stream")), b"hello")
    say("files.read gzip", lambda: f.read("a.txt", gzip=True), "hello")
    say("files.write again", lambda: f.write("a.txt", b"other"))
    say("files.read again", lambda: f.read("a.txt"), "other")
    say("files.write nested", lambda: f.write("/tmp/x/y/z.txt", "deep").path, "/tmp/x/y/z.txt")
    say("files.write io", lambda: f.write("io.bin", io.BytesIO(b"\0" * 100)).name, "io.bin")
    say(
        "files.write octet-stream",
        lambda: f.write("o.txt", "octets", use_octet_stream=True).name,
        "o.txt",
    )
    say("files.write gzip", lambda: f.write("g.txt", "packed" * 1000, gzip=True).name, "g.txt")
    say("files.read gzipped", lambda: f.read("g.txt"), "packed" * 1000)
    say(
        "files.write chunks",
        lambda: f.write("c.txt", iter([b"a" * 70000, b"b" * 70000])).name,
        "c.txt",
    )
    say("files.get_info size", lambda: f.get_info("c.txt").size, 140000)
    big = os.urandom(5 << 20)
    say("files.write 5 MiB", lambda: f.write("big.bin", big).name, "big.bin")
    say("files.read 5 MiB", lambda: bytes(f.read("big.bin", format="bytes")) == big, True)
    say(
        "files.write_files",
        lambda: [
            w.path
            for w in f.write_files([{"path": "m/1", "data": "1"}, {"path": "m/2", "data": "2"}])
        ],
        ["/home/user/m/1", "/home/user/m/2"],
    )
    say("files.write_files none", lambda: f.write_files([]), [])
    say("files.write empty", lambda: f.write("empty", ""))
    say("files.read empty", lambda: f.read("empty"), "")
    say("files.write odd name", lambda: f.write("a b'c&d=e.txt", "odd").name, "a b'c&d=e.txt")
    say("files.read odd name", lambda: f.read("a b'c&d=e.txt"), "odd")
    say.raises("files.read missing", lambda: f.read("missing"), FileNotFoundException)
    say.raises("files.read directory", lambda: f.read("m"), InvalidArgumentException)
    say.raises("files.write denied", lambda: f.write("/etc/hostname", "x"), SandboxException)
    noted = {"a": "b", "of.two": "words here"}
    say("files.write metadata", lambda: f.write("n.txt", "x", metadata=noted).metadata, noted)
    say("files.get_info metadata", lambda: f.get_info("n.txt").metadata, noted)
    say(
        "files.list metadata",
        lambda: {e.name: e.metadata for e in f.list(".") if e.name in ("n.txt", "a.txt")},
        {"n.txt": noted, "a.txt": None},
    )
    say("files.rename metadata", lambda: f.rename("n.txt", "o.txt").metadata, noted)
    say.raises(
        "files.write metadata too large",
        lambda: f.write("n.txt", "x", metadata={"a": "b" * 5000}),
        SandboxException,
        "metadata",
    )
    say.raises(
        "files.read unknown user", lambda: f.read("a.txt", user="eve"), AuthenticationException
    )
    say(
        "files.write from inside",
        lambda: box.commands.run("cat a.txt; stat -c %a a.txt").stdout,
        "other644\n",
    )


def directories(box: Sandbox) -> None:
    say.area = "directories"
    f = box.files
    say("files.make_dir", lambda: f.make_dir("d/e"), True)
    say("files.make_dir again", lambda: f.make_dir("d/e"), False)
    say("files.exists", lambda: f.exists("d/e"), True)
    say("files.exists not", lambda: f.exists("d/f"), False)
    f.write("d/one.txt", "1")
    box.commands.run("ln -s one.txt d/link; chmod 700 d/e")
    say("files.list", lambda: sorted(e.name for e in f.list("d")), ["e", "link", "one.txt"])
    say(
        "files.list types",
        lambda: {e.name: e.type for e in f.list("d")},
        {"e": FileType.DIR, "link": FileType.SYMLINK, "one.txt": FileType.FILE},
    )
    say(
        "files.list depth",
        lambda: sorted(e.path for e in f.list("/home/user/d", depth=2)),
        lambda x: "/home/user/d/one.txt" in x,
    )
    info = say(
        "files.get_info",
        lambda: f.get_info("d/one.txt"),
        lambda i: (
            (i.size, i.mode, i.owner, i.group, i.permissions)
            == (1, 0o644, "user", "user", "-rw-r--r--")
        ),
    )
    say(
        "files.get_info time",
        lambda: abs((datetime.now(UTC) - info.modified_time).total_seconds()) < 60,
        True,
    )
    say("files.get_info link", lambda: f.get_info("d/link").symlink_target, "one.txt")
    say("files.get_info directory", lambda: f.get_info("d/e").permissions, "drwx------")
    say(
        "files.rename",
        lambda: f.rename("d/one.txt", "d/new/two.txt").path,
        "/home/user/d/new/two.txt",
    )
    say("files.remove", lambda: f.remove("d/new/two.txt"))
    say("files.remove missing", lambda: f.remove("d/new/two.txt"))
    say("files.remove directory", lambda: f.remove("d"))
    say("files.exists removed", lambda: f.exists("d"), False)
    say.raises("files.list missing", lambda: f.list("missing"), FileNotFoundException)
    say.raises("files.list file", lambda: f.list("a.txt"), InvalidArgumentException)
    say.raises("files.get_info missing", lambda: f.get_info("missing"), FileNotFoundException)
    say.raises("files.rename missing", lambda: f.rename("missing", "x"), FileNotFoundException)
    say("files.list of root", lambda: {"home", "tmp", "usr"} <= {e.name for e in f.list("/")}, True)


def watching(box: Sandbox) -> None:
    say.area = "watching"
    f = box.files
    f.make_dir("w/sub")
    handle = say("files.watch_dir", lambda: f.watch_dir("w"))
    deep = say("files.watch_dir recursive", lambda: f.watch_dir("w", recursive=True))
    f.write("w/n.txt", "1")
    f.rename("w/n.txt", "w/o.txt")
    f.write("w/sub/p.txt", "1")
    f.remove("w/o.txt")
    events: list = []
    say(
        "watch.get_new_events",
        lambda: _until(
            lambda: (
                events.extend(handle.get_new_events()),
                any(e.type is FilesystemEventType.REMOVE for e in events),
            )[1]
        ),
        True,
    )
    kinds = {(e.name, e.type) for e in events}
    say("watch create", lambda: ("n.txt", FilesystemEventType.CREATE) in kinds, True)
    say("watch write", lambda: ("n.txt", FilesystemEventType.WRITE) in kinds, True)
    say("watch rename", lambda: ("n.txt", FilesystemEventType.RENAME) in kinds, True)
    say("watch not recursive", lambda: any(e.name.startswith("sub/") for e in events), False)
    seen: list = []
    say(
        "watch recursive",
        lambda: _until(
            lambda: (seen.extend(deep.get_new_events()), any(e.name == "sub/p.txt" for e in seen))[
                1
            ]
        ),
        True,
    )
    say("watch.stop", handle.stop)
    say("watch.stop recursive", deep.stop)
    say.raises("watch.get_new_events stopped", handle.get_new_events, SandboxException)
    say.raises("files.watch_dir missing", lambda: f.watch_dir("missing"), FileNotFoundException)
    say.raises("files.watch_dir file", lambda: f.watch_dir("a.txt"), InvalidArgumentException)


def signatures(box: Sandbox) -> None:
    say.area = "signed addresses"
    with httpx.Client() as http:
        say(
            "upload_url",
            lambda: http.post(
                box.upload_url("signed.txt"), files={"file": ("signed.txt", b"by url")}
            ).json()[0]["path"],
            "/home/user/signed.txt",
        )
        say("download_url", lambda: http.get(box.download_url("signed.txt")).text, "by url")
        say(
            "download_url user",
            lambda: http.get(box.download_url("signed.txt", user="user")).text,
            "by url",
        )
        say(
            "download_url expiring",
            lambda: http.get(box.download_url("signed.txt", use_signature_expiration=60)).text,
            "by url",
        )
        say(
            "download_url expired",
            lambda: (
                http.get(box.download_url("signed.txt", use_signature_expiration=-5)).status_code
            ),
            401,
        )
        other = box.download_url("signed.txt").replace("signed.txt", "a.txt")
        say("download_url forged", lambda: http.get(other).status_code, 401)
        say(
            "download_url for writing",
            lambda: http.post(box.download_url("signed.txt"), content=b"x").status_code,
            401,
        )


def life() -> None:
    say.area = "life"
    box = say(
        "Sandbox.create",
        lambda: Sandbox.create(
            timeout=120, metadata={"kind": "life", "q": "a=b&c"}, envs={"FROM": "create"}
        ),
    )
    say("Sandbox.create envs", lambda: box.commands.run("echo $FROM").stdout, "create\n")
    say("is_running", box.is_running, True)
    info = say(
        "get_info",
        box.get_info,
        lambda i: (
            (i.sandbox_id, i.metadata, i.state)
            == (box.sandbox_id, {"kind": "life", "q": "a=b&c"}, SandboxState.RUNNING)
        ),
    )
    say("get_info times", lambda: 100 < (info.end_at - info.started_at).total_seconds() < 140, True)
    say("Sandbox.get_info", lambda: Sandbox.get_info(box.sandbox_id).template_id, "base")
    say("set_timeout", lambda: box.set_timeout(300))
    say(
        "set_timeout seen",
        lambda: (box.get_info().end_at - datetime.now(UTC)).total_seconds() > 250,
        True,
    )
    say(
        "connect",
        lambda: Sandbox.connect(box.sandbox_id, timeout=10).commands.run("echo again").stdout,
        "again\n",
    )
    say(
        "connect never shortens",
        lambda: (box.get_info().end_at - datetime.now(UTC)).total_seconds() > 250,
        True,
    )
    say(
        "get_metrics",
        box.get_metrics,
        lambda m: len(m) == 1 and m[0].mem_total > 0 and m[0].disk_total > 0,
    )
    say("get_metrics past", lambda: box.get_metrics(end=datetime.now(UTC) - timedelta(hours=1)), [])
    say("get_host", lambda: box.get_host(3000), lambda h: h.startswith(f"3000-{box.sandbox_id}."))
    box.files.write("kept.txt", "kept")
    box.commands.run("sleep 300", background=True)
    say("pause", box.pause, True)
    say("pause again", box.pause, False)
    say("get_info paused", lambda: box.get_info().state, SandboxState.PAUSED)
    say("is_running paused", box.is_running, False)
    say(
        "Sandbox.connect resumes",
        lambda: Sandbox.connect(box.sandbox_id).files.read("kept.txt"),
        "kept",
    )
    say("processes go on", lambda: [p.args[-1] for p in box.commands.list()], ["sleep 300"])
    box.pause()
    say("connect resumes", lambda: box.connect().is_running(), True)
    forks = say("fork", lambda: box.fork(count=2), lambda f: len(f) == 2)
    say("fork files", lambda: [each.files.read("kept.txt") for each in forks], ["kept", "kept"])
    forks[0].files.write("kept.txt", "changed")
    say("fork apart", lambda: box.files.read("kept.txt"), "kept")
    say("fork kill", lambda: [each.kill() for each in forks], [True, True])
    say("kill", box.kill, True)
    say("kill again", box.kill, False)
    say("is_running killed", box.is_running, False)
    say.raises(
        "commands.run killed", lambda: box.commands.run("true"), TimeoutException, "was not found"
    )
    say.raises("files.read killed", lambda: box.files.read("x"), TimeoutException, "was not found")
    say.raises("set_timeout killed", lambda: box.set_timeout(5), SandboxNotFoundException)
    say.raises("get_info killed", box.get_info, SandboxNotFoundException)
    say.raises("pause killed", box.pause, SandboxNotFoundException)
    say.raises("connect killed", lambda: Sandbox.connect(box.sandbox_id), SandboxNotFoundException)
    say.raises("connect unknown", lambda: Sandbox.connect(UNKNOWN), SandboxNotFoundException)
    say("Sandbox.kill unknown", lambda: Sandbox.kill("nonsense"), False)
    with Sandbox.create() as short:
        say("with", lambda: short.commands.run("echo in").stdout, "in\n")
    say("with ended", short.is_running, False)
    say.raises(
        "create unknown template",
        lambda: Sandbox.create("no-such-template"),
        Exception,
        "was not found",
    )
    say.raises(
        "create wrong key", lambda: Sandbox.create(api_key="e2b_wrong"), AuthenticationException
    )
    one = Sandbox.create(idempotency_key=ONCE)
    say(
        "create idempotent",
        lambda: Sandbox.create(idempotency_key=ONCE).sandbox_id,
        one.sandbox_id,
    )
    one.kill()
    short = Sandbox.create(timeout=1)
    say("timeout ends it", lambda: _until(lambda: not short.is_running()), True)
    late = Sandbox.create(timeout=1, lifecycle={"on_timeout": "pause"})
    say(
        "timeout pauses it",
        lambda: _until(lambda: late.get_info().state is SandboxState.PAUSED),
        True,
    )
    late.kill()
    victim = Sandbox.create()
    killer = threading.Timer(0.5, victim.kill)
    killer.start()
    say.raises("killed while it runs", lambda: victim.commands.run("sleep 60"), TimeoutException)


def lists() -> None:
    say.area = "lists"
    boxes = [Sandbox.create(metadata={"list": "yes", "n": str(n)}) for n in range(3)]
    ours = {"list": "yes"}
    ids = {box.sandbox_id for box in boxes}
    say(
        "Sandbox.list",
        lambda: {
            i.sandbox_id for i in Sandbox.list(query=SandboxQuery(metadata=ours)).next_items()
        },
        ids,
    )
    pages = Sandbox.list(query=SandboxQuery(metadata=ours), limit=2)
    first = say("list page", pages.next_items, lambda x: len(x) == 2)
    say("list has_next", lambda: pages.has_next, True)
    rest = say("list next page", pages.next_items, lambda x: len(x) == 1)
    say("list whole", lambda: {i.sandbox_id for i in [*first, *rest]}, ids)
    say("list end", lambda: pages.has_next, False)
    boxes[0].pause()
    say(
        "list paused",
        lambda: [
            i.sandbox_id
            for i in Sandbox.list(
                query=SandboxQuery(metadata=ours, state=[SandboxState.PAUSED])
            ).next_items()
        ],
        [boxes[0].sandbox_id],
    )
    say(
        "list running",
        lambda: len(
            Sandbox.list(
                query=SandboxQuery(metadata=ours, state=[SandboxState.RUNNING])
            ).next_items()
        ),
        2,
    )
    say(
        "list metadata",
        lambda: [
            i.sandbox_id for i in Sandbox.list(query=SandboxQuery(metadata={"n": "1"})).next_items()
        ],
        lambda x: boxes[1].sandbox_id in x,
    )
    say(
        "list asc",
        lambda: [
            i.sandbox_id
            for i in Sandbox.list(query=SandboxQuery(metadata=ours), order="asc").next_items()
        ],
        [box.sandbox_id for box in boxes],
    )
    say(
        "list template",
        lambda: Sandbox.list(query=SandboxQuery(metadata=ours, template="other")).next_items(),
        [],
    )
    for box in boxes:
        box.kill()
    say("list gone", lambda: Sandbox.list(query=SandboxQuery(metadata=ours)).next_items(), [])


def snapshots(box: Sandbox) -> None:
    say.area = "snapshots"
    box.files.write("state.txt", "then")
    taken = say("create_snapshot", box.create_snapshot, lambda s: len(s.names) == 1)
    say(
        "create_snapshot named",
        lambda: box.create_snapshot(name="compat").names,
        ["compat:default"],
    )
    box.files.write("state.txt", "now")
    say(
        "list_snapshots",
        lambda: taken.snapshot_id in [s.snapshot_id for s in box.list_snapshots().next_items()],
        True,
    )
    say(
        "Sandbox.list_snapshots name",
        lambda: [s.names for s in Sandbox.list_snapshots(name="compat").next_items()],
        [["compat:default"]],
    )
    pages = Sandbox.list_snapshots(limit=1)
    say("list_snapshots page", lambda: (len(pages.next_items()), pages.has_next), (1, True))
    for name in (taken.snapshot_id, "compat"):
        again = say("Sandbox.create snapshot", lambda name=name: Sandbox.create(name))
        say("snapshot files", lambda again=again: again.files.read("state.txt"), "then")
        again.kill()
    say("delete_snapshot", lambda: Sandbox.delete_snapshot(taken.snapshot_id), True)
    say("delete_snapshot again", lambda: Sandbox.delete_snapshot(taken.snapshot_id), False)
    say("delete_snapshot named", lambda: Sandbox.delete_snapshot("snapshots/compat"), True)


def templates() -> None:
    say.area = "templates"
    image = os.environ.get("COMPAT_IMAGE")
    if image is None:
        return
    build = Template.build
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "app.txt").write_text("app")
        Path(directory, "dir").mkdir()
        Path(directory, "dir", "x").write_text("x")
        template = (
            Template(file_context_path=directory).from_image(image).set_envs({"A": 'q"$x 1'})
            .run_cmd("echo ran > ran.txt").run_cmd("id -u > /who", user="root")
            .copy("app.txt", "/opt/app.txt").copy("dir", "/opt/dir")
        )  # fmt: skip
        logs: list[str] = []
        say(
            "Template.build",
            lambda: build(
                template,
                "compat-t",
                tags=["v1", "v2"],
                cpu_count=1,
                memory_mb=300,
                on_build_logs=lambda line: logs.append(line.message),
            ),
            lambda i: i.tags == ["v1", "v2"],
        )
        say("Template.build logs", lambda: any("RUN" in line for line in logs), True)
    say("Template.exists", lambda: Template.exists("compat-t"), True)
    say("Template.exists not", lambda: Template.exists("compat-none"), False)
    say(
        "Template.get_tags",
        lambda: sorted(t.tag for t in Template.get_tags("compat-t"))[:2],
        ["v1", "v2"],
    )
    say("Template.assign_tags", lambda: Template.assign_tags("compat-t:v1", ["v3"]).tags, ["v3"])
    say("Template.remove_tags", lambda: Template.remove_tags("compat-t", "v2"))
    say(
        "Template.get_tags after",
        lambda: sorted(t.tag for t in Template.get_tags("compat-t")),
        ["v1", "v3"],
    )
    box = say("Sandbox.create template", lambda: Sandbox.create("compat-t:v3"))
    say(
        "template files",
        lambda: box.commands.run("cat ~/ran.txt /who /opt/app.txt /opt/dir/x").stdout,
        "ran\n0\nappx",
    )
    say("template envs", lambda: box.commands.run('echo "$A"').stdout, 'q"$x 1\n')
    say("template memory", lambda: box.get_info().memory_mb, 300)
    box.kill()
    plain = Template().from_image(image)
    background = say(
        "Template.build_in_background",
        lambda: Template.build_in_background(plain.run_cmd("true"), "compat-b"),
    )
    say(
        "Template.get_build_status",
        lambda: _until(lambda: Template.get_build_status(background).status.value == "ready"),
        True,
    )
    failing = Template().from_image(image).run_cmd("exit 4")
    say.raises(
        "Template.build failing", lambda: build(failing, "compat-f"), BuildException, "ended with 4"
    )
    say.raises(
        "Template.build from base",
        lambda: build(Template().from_template("base"), "compat-f"),
        BuildException,
        "begin from",
    )
    started = Template().from_image(image).set_start_cmd("x", "true")
    say.raises(
        "Template.build start command",
        lambda: build(started, "compat-f"),
        BuildException,
        "not offered",
    )


def volumes() -> None:
    say.area = "volumes"
    name = f"compat-{os.getpid()}"
    volume = say("Volume.create", lambda: Volume.create(name), lambda v: v.volume_id == name)
    say("Volume.list", lambda: name in [v.name for v in Volume.list()], True)
    say("Volume.get_info", lambda: Volume.get_info(name).name, name)
    with Sandbox.create(volume_mounts={"/mnt/v": volume}) as first:
        say("volume write", lambda: first.files.write("/mnt/v/f", "kept").path, "/mnt/v/f")
        say.raises("Volume.destroy in use", lambda: Volume.destroy(name), VolumeException, "409")
    with Sandbox.create(volume_mounts={"/mnt/v": name}) as second:
        say("volume read", lambda: second.files.read("/mnt/v/f"), "kept")
    say("Volume.destroy", lambda: _until(lambda: _destroyed(name)), True)
    say("Volume.destroy again", lambda: Volume.destroy(name), False)


def _destroyed(name: str) -> bool:
    """A sandbox lets go of its volumes a moment after its end has been told."""
    try:
        return Volume.destroy(name)
    except VolumeException:
        return False


def not_offered(box: Sandbox) -> None:
    say.area = "not offered"
    say.raises(
        "create mcp", lambda: Sandbox.create("base", mcp={"x": {}}), SandboxException, "not offered"
    )
    say.raises(
        "create rules",
        lambda: Sandbox.create(network={"allow_out": ["example.org"]}),
        SandboxException,
        "not offered",
    )
    say.raises(
        "pause filesystem", lambda: box.pause(mode="filesystem"), SandboxException, "not offered"
    )


def main() -> int:
    box = Sandbox.create(timeout=300)
    try:
        for part in (
            commands,
            background,
            pty,
            files,
            directories,
            watching,
            signatures,
            snapshots,
            not_offered,
        ):
            part(box)
    finally:
        box.kill()
    life()
    lists()
    templates()
    volumes()
    return say.finish(os.environ.get("COMPAT_TABLE"))


if __name__ == "__main__":
    sys.exit(main())
