"""Files of an open sandbox, honest and hostile, by way of descriptors that were opened inside."""

import asyncio
import base64
import os
import time
from typing import Any

import pytest

from sandboxd.errors import (
    FileProblem,
    InvalidRequest,
    NoSpace,
    PathDenied,
    PathExists,
    PathNotFound,
    WrongFileType,
)
from sandboxd.model import agent
from sandboxd.model.agent import Changes, Kind, Removed, Watching, Written, frame, message
from sandboxd.model.session import FileChange, FileEvent, FileInfo, FileType, Process
from tests.node.sessions.gateway import Box, Gateway, decode

pytestmark = pytest.mark.root

MIB = 1 << 20


async def test_what_is_written_is_read(box: Box) -> None:
    info = await box.write("a/b/c.txt", b"hello")
    assert (info.type, info.size, info.mode) == (FileType.FILE, 5, 0o644)
    assert await box.read("/work/a/b/c.txt") == b"hello"
    assert (
        await box.sh("cat a/b/c.txt; stat -c '%u %a' a a/b/c.txt") == b"hello1000 755\n1000 644\n"
    )
    assert await box.read("a/b/c.txt", offset=1, length=3) == b"ell"
    assert await box.read("a/b/c.txt", offset=99) == b""


@pytest.mark.parametrize("size", [0, 1, 48 << 10, (48 << 10) + 1, 5 * MIB])
async def test_contents_of_any_size(box: Box, size: int) -> None:
    data = os.urandom(size)
    pieces = [data[at : at + 200_000] for at in range(0, size, 200_000)]
    assert (await box.write("f", *pieces)).size == size
    assert await box.read("f") == data


async def test_a_file_is_replaced_whole_or_not_at_all(gateway: Gateway, box: Box) -> None:
    await box.write("f", b"old")
    async with gateway.line() as line:
        await line.send(message(Kind.CALL, box.fill(agent.WriteFile, path=b"f")))
        for _ in range(4):
            await line.send(frame(Kind.DATA, bytes(200_000)))
        await asyncio.sleep(0.1)
        assert await box.read("f") == b"old"
    while b".sbx-" in await box.sh("ls -A"):  # the sender is gone: its draft goes too
        await asyncio.sleep(0.01)
    assert await box.read("f") == b"old"
    assert await box.sh("ls -A") == b"f\n"


async def test_mode_is_kept_or_set_and_links_are_written_through(box: Box) -> None:
    await box.sh("echo x > f; chmod 751 f; ln -s f l; ln -s ../work/l ll")
    assert (await box.write("ll", b"new")).mode == 0o751
    assert await box.sh("cat f; stat -c %F l") == b"newsymbolic link\n"
    assert (await box.write("f", b"y", mode=0o600)).mode == 0o600


async def test_appending_and_going_on_where_it_broke_off(gateway: Gateway, box: Box) -> None:
    await box.write("f", b"one ", append=True)
    assert (await box.write("f", b"two ", append=True)).size == 8
    assert (await box.write("f", b"2!", offset=4)).size == 8
    assert await box.read("f") == b"one 2!o "
    with pytest.raises(FileProblem):
        await box.write("f", b"x", offset=9)
    async with gateway.line() as line:
        await line.send(message(Kind.CALL, box.fill(agent.WriteFile, path=b"g", offset=0)))
        await line.send(frame(Kind.DATA, b"a" * 100_000))
        while (await _size(box, "g")) < 100_000:
            await asyncio.sleep(0.01)
    assert (await box.write("g", b"b" * 100_000, offset=100_000)).size == 200_000
    assert await box.read("g") == b"a" * 100_000 + b"b" * 100_000


async def _size(box: Box, path: str) -> int:
    try:
        return (await box.stat(path)).size
    except PathNotFound:
        return 0


async def test_names_are_listed_to_a_depth_and_in_pages(box: Box) -> None:
    await box.sh("mkdir -p a/b/c; touch a/1 a/b/2 a/b/c/3; ln -s /etc a/b/link; mkfifo p")
    one = await box.page(".")
    assert [entry.path for entry in one.entries] == ["./a", "./p"]
    assert [entry.type for entry in one.entries] == [FileType.DIRECTORY, FileType.FIFO]
    deep = await box.page("/work", depth=3)
    assert [entry.path for entry in deep.entries] == [
        "/work/a", "/work/a/1", "/work/a/b", "/work/a/b/2", "/work/a/b/c", "/work/a/b/link",
        "/work/p",
    ]  # fmt: skip
    (link,) = [entry for entry in deep.entries if entry.type is FileType.SYMLINK]
    assert link.target == "/etc"
    seen: list[str] = []
    cursor = None
    while True:
        page = await box.page("/work", depth=9, limit=3, cursor=cursor)
        seen += [entry.path for entry in page.entries]
        assert len(page.entries) <= 3
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(seen) == sorted(e.path for e in (await box.page("/work", depth=9)).entries)
    with pytest.raises(InvalidRequest):
        await box.page("/work", cursor="x")


async def test_directories_are_made_moved_removed(box: Box) -> None:
    made = await box.ask(agent.MakeDirectory, FileInfo, path=b"x/y/z", mode=0o700)
    assert (made.type, made.mode) == (FileType.DIRECTORY, 0o700)
    await box.ask(agent.MakeDirectory, FileInfo, path=b"x/y/z")
    await box.write("x/f", b"1")
    with pytest.raises(PathExists):
        await box.ask(agent.MakeDirectory, FileInfo, path=b"x/f")
    await box.write("t", b"2")
    with pytest.raises(PathExists):
        await box.ask(agent.Move, FileInfo, source=b"x/f", target=b"t", overwrite=False)
    await box.ask(agent.Move, FileInfo, source=b"x/f", target=b"t")
    assert await box.read("t") == b"1"
    with pytest.raises(PathExists):
        await box.ask(agent.Remove, Removed, path=b"x")
    assert (await box.ask(agent.Remove, Removed, path=b"x", recursive=True)).entries == 3
    with pytest.raises(PathNotFound):
        await box.stat("x")
    assert (await box.ask(agent.Remove, Removed, path=b"t")).entries == 1
    with pytest.raises(PathNotFound):
        await box.ask(agent.Remove, Removed, path=b"t", recursive=True)
    for wrong in (b".", b"..", b"/", b"a/.."):
        with pytest.raises(FileProblem):
            await box.ask(agent.Remove, Removed, path=wrong, recursive=True)
    changed = await box.ask(agent.ChangeMode, FileInfo, path=b"/work", mode=0o711)
    assert changed.mode == 0o711


async def test_removal_does_not_follow_links(box: Box) -> None:
    await box.sh("mkdir keep d; touch keep/f; ln -s ../keep d/l; ln -s keep top")
    await box.ask(agent.Remove, Removed, path=b"d", recursive=True)
    await box.ask(agent.Remove, Removed, path=b"top", recursive=True)
    assert await box.sh("ls keep; ls") == b"f\nkeep\n"


async def test_errors_say_what_is_wrong(box: Box) -> None:
    await box.sh("mkdir d; mkfifo p; ln -s loop loop")
    cases: list[tuple[str, type[Exception]]] = [
        ("none", PathNotFound), ("d", WrongFileType), ("p", WrongFileType),
        ("/dev/zero", WrongFileType), ("d/x/y", PathNotFound), ("loop", FileProblem),
        ("/proc/self/status", WrongFileType), ("/proc/1/environ", PathNotFound),
        ("/proc/self/fd/3", WrongFileType),
    ]  # fmt: skip
    for path, error in cases:
        with pytest.raises(error):
            await box.read(path)
    for path, error in (("d", WrongFileType), ("p", WrongFileType), ("/dev/null", WrongFileType),
                        ("/usr/x", PathDenied), ("/proc/sys/kernel/hostname", PathNotFound),
                        ("/none/x", PathDenied)):  # fmt: skip
        with pytest.raises(error):
            await box.write(path, b"x")
    with pytest.raises(InvalidRequest):
        await box.write(b"a\0b", b"x")
    assert (await box.stat("/etc/hosts", follow=True)).type is FileType.FILE


async def test_a_full_disk_is_said_and_leaves_the_old_file(box: Box) -> None:
    await box.write("f", b"old")
    piece = bytes(250_000)
    with pytest.raises(NoSpace):
        await box.write("f", *[piece] * 400)
    assert await box.read("f") == b"old"
    assert await box.sh("ls -A") == b"f\n"


async def test_links_that_lead_out_lead_nowhere_else(box: Box) -> None:
    """The root of a link is the sandbox's, whatever it says."""
    await box.sh("ln -s /etc/shadow s; ln -s /proc/1/root/etc/passwd p; ln -s ../../../../etc e")
    for path in ("s", "p"):
        with pytest.raises((PathDenied, PathNotFound, FileProblem)):
            await box.read(path)
    inside = await box.sh("cat /etc/passwd")
    assert await box.read("e/passwd") == inside
    with open("/etc/passwd", "rb") as outside:
        assert outside.read() != inside


async def test_a_race_of_links_never_yields_anything_of_another_file(box: Box) -> None:
    flip = (
        "import os\nopen('a','w').write('A'*9)\nos.mkfifo('q')\n"
        "os.symlink('/etc/shadow','b')\nos.symlink('/proc/1/environ','c')\n"
        "while True:\n for n in ('a','b','c','q'):\n  os.link(n,'t',follow_symlinks=False);"
        " os.rename('t','f')\n  try: os.unlink('t')\n  except OSError: pass"
    )
    await box.start("/usr/bin/python3", "-IS", "-c", flip)
    seen = set()
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        try:
            seen.add(await box.read("f"))
        except (PathNotFound, PathDenied, WrongFileType, FileProblem) as error:
            seen.add(type(error).__name__.encode())
    assert b"A" * 9 in seen, "it was never met in its honest shape"
    assert seen <= {b"A" * 9, b"PathNotFound", b"PathDenied", b"WrongFileType", b"FileProblem"}


async def test_a_file_that_shrinks_while_it_is_read_says_so(gateway: Gateway, box: Box) -> None:
    await box.sh("head -c 20000000 /dev/zero > f")
    async with gateway.line() as line:
        await line.send(message(Kind.CALL, box.fill(agent.ReadFile, path=b"f")))
        info = await line.expect(Kind.EVENT, FileInfo)
        assert info.size == 20_000_000
        await box.sh("truncate -s 100 f")
        got = 0
        while True:
            kind, payload = await line.next()
            if kind is Kind.REPLY:
                break
            got += len(payload)
    assert decode(payload, agent.Transferred).bytes == got < 20_000_000


async def test_a_sparse_file_without_end_costs_nothing(gateway: Gateway, box: Box) -> None:
    await box.run("truncate", "-s", "7E", "f")
    assert (await box.stat("f")).size == 7 << 60
    assert await box.read("f", offset=(7 << 60) - 5) == bytes(5)
    async with gateway.line() as line:
        await line.send(message(Kind.CALL, box.fill(agent.ReadFile, path=b"f")))
        await line.expect(Kind.EVENT, FileInfo)
        assert (await line.next())[1] == bytes(agent.MAX_DATA)
    assert await box.sh("echo on") == b"on\n"


async def test_names_that_are_no_text_survive(box: Box) -> None:
    names = [b"new\nline", b"\x1b[31mred\x1b[0m", b"\xff\xfe", b"a b'\"", "é".encode(), b"-rf"]
    for name in names:
        await box.write(name, name)
    entries = (await box.page("/work")).entries
    found = [
        base64.b64decode(entry.path_base64) if entry.path_base64 else entry.path.encode()
        for entry in entries
    ]
    assert sorted(found) == sorted(b"/work/" + name for name in names)
    for name in names:
        assert await box.read(b"/work/" + name) == name
        await box.ask(agent.Remove, Removed, path=name)
    await box.write(b"n" * 255, b"x")
    with pytest.raises(FileProblem):
        await box.write(b"n" * 256, b"x")


async def test_very_many_entries_come_in_pages_and_go_at_once(box: Box) -> None:
    script = (
        "import os\nfor d in range(4):\n os.mkdir(f'd{d}')\n"
        " for i in range(700): os.mknod(f'd{d}/{\"x\"*200}{i}')"
    )
    assert (await box.run("/usr/bin/python3", "-IS", "-c", script)).process.exit_code == 0
    started = time.monotonic()
    page = await box.page("/work", depth=2, limit=1000)
    assert len(page.entries) == 1000 and page.next_cursor == "1000"
    last = await box.page("/work", depth=2, limit=10_000, cursor="2000")
    assert len(last.entries) == 804 and last.next_cursor is None
    assert time.monotonic() - started < 5
    for d in range(4):
        removed = await box.ask(agent.Remove, Removed, path=b"d%d" % d, recursive=True)
        assert removed.entries == 701


async def test_a_page_of_long_names_is_cut_by_bytes(box: Box) -> None:
    script = "import os\nfor i in range(2000): os.symlink('x' * 4000, f'l{i}')"
    assert (await box.run("/usr/bin/python3", "-IS", "-c", script)).process.exit_code == 0
    page = await box.page(".", limit=10_000)
    assert 900 < len(page.entries) < 1100
    rest = await box.page(".", limit=10_000, cursor=page.next_cursor)
    assert len(page.entries) + len(rest.entries) == 2000


async def test_a_deep_tree_ends_the_walk_not_the_service(box: Box) -> None:
    script = "import os\nfor i in range(1200):\n os.mkdir('d'); os.chdir('d')"
    assert (await box.run("/usr/bin/python3", "-IS", "-c", script)).process.exit_code == 0
    page = await box.page("/work", depth=64, limit=1000)
    assert len(page.entries) == 64
    with pytest.raises(FileProblem):
        await box.ask(agent.Remove, Removed, path=b"d", recursive=True)
    assert await box.sh("rm -r d; ls") == b""


async def test_many_small_files_in_one_request(box: Box) -> None:
    files = [agent.NewFile(b"d/%d" % i, i * 10, 0o640) for i in range(300)]
    files.append(agent.NewFile(b"big", 3 * MIB))
    content = b"".join(bytes([i % 256]) * (i * 10) for i in range(300)) + b"B" * (3 * MIB)
    pieces = [content[at : at + 77_777] for at in range(0, len(content), 77_777)]
    written = await box.ask(agent.WriteFiles, Written, *pieces, files=files)
    assert (written.files, written.bytes) == (301, len(content))
    assert await box.read("d/255") == b"\xff" * 2550
    assert (await box.stat("d/7")).mode == 0o640
    assert await box.read("big") == b"B" * (3 * MIB)
    with pytest.raises(InvalidRequest):
        await box.ask(agent.WriteFiles, Written, b"12", files=[agent.NewFile(b"x", 3)])
    with pytest.raises(InvalidRequest):
        await box.ask(agent.WriteFiles, Written, b"1234", files=[agent.NewFile(b"x", 3)])


async def test_a_connection_serves_on_after_an_error(gateway: Gateway, box: Box) -> None:
    async with gateway.line() as line:
        with pytest.raises(PathDenied):
            await line.call(
                box.fill(agent.WriteFile, path=b"/usr/x"), FileInfo, *[bytes(90_000)] * 9
            )
        info = await line.call(box.fill(agent.WriteFile, path=b"y"), FileInfo, b"abc")
        assert info.size == 3


async def test_changes_are_told(gateway: Gateway, box: Box) -> None:
    await box.sh("mkdir -p w/sub")
    async with gateway.line() as line:
        await line.send(message(Kind.CALL, box.fill(agent.Watch, path=b"w")))
        assert (await line.expect(Kind.EVENT, Watching)).directories == 2
        await box.sh(
            "echo 1 > w/a; mkdir w/new; echo 2 > w/new/b; mv w/a w/sub/c; chmod 600 w/sub/c;"
            "rm w/sub/c; mkdir -p w/x/y/z; echo 3 > w/x/y/z/deep; echo end > w/end"
        )
        events: list[FileEvent] = []
        while not any(event.path == "w/end" for event in events):
            events += (await line.expect(Kind.EVENT, Changes)).events
    told = {(event.change, event.path) for event in events}
    assert {
        (FileChange.CREATED, "w/a"), (FileChange.MODIFIED, "w/a"), (FileChange.CREATED, "w/new"),
        (FileChange.MOVED_FROM, "w/a"), (FileChange.MOVED_TO, "w/sub/c"),
        (FileChange.ATTRIBUTES, "w/sub/c"), (FileChange.REMOVED, "w/sub/c"),
        (FileChange.CREATED, "w/x"),
    } <= told  # fmt: skip
    assert any(event.path == "w/x/y/z/deep" for event in events)
    assert any(event.path == "w/new/b" for event in events)
    async with gateway.line() as line:
        await line.send(message(Kind.CALL, box.fill(agent.Watch, path=b"none")))
        with pytest.raises(PathNotFound):
            await line.next()


async def test_changes_that_nobody_reads_are_lost_and_that_is_told(
    gateway: Gateway, box: Box
) -> None:
    async with gateway.line() as line:
        await line.send(message(Kind.CALL, box.fill(agent.Watch, path=b".")))
        await line.expect(Kind.EVENT, Watching)
        line.reader._transport.pause_reading()  # type: ignore[attr-defined]
        flood = (
            "import os\nn='x'*200\nfor i in range(30000):\n os.mknod(n+str(i)); os.unlink(n+str(i))"
        )
        assert (await box.run("/usr/bin/python3", "-IS", "-c", flood)).process.exit_code == 0
        assert await box.sh("echo on") == b"on\n"
        line.reader._transport.resume_reading()  # type: ignore[attr-defined]
        while True:
            events = (await line.expect(Kind.EVENT, Changes)).events
            if any(event.change is FileChange.OVERFLOW for event in events):
                break


async def test_long_requests_are_limited_and_end_with_their_client(
    gateway: Gateway, box: Box
) -> None:
    async with gateway.line() as line:
        await line.send(message(Kind.CALL, box.fill(agent.Watch, path=b".")))
        await line.expect(Kind.EVENT, Watching)
        before = (await box.metrics()).pids
    while (await box.metrics()).pids >= before:
        await asyncio.sleep(0.01)


async def test_the_service_of_files_may_be_killed_at_any_moment(box: Box) -> None:
    process: Process = await box.start(
        "/usr/bin/python3", "-IS", "-c",
        "import os,signal\nwhile True:\n for p in os.listdir('/proc'):\n"
        "  if p.isdigit() and int(p) not in (1, os.getpid()):\n"
        "   try: os.kill(int(p), 9)\n   except OSError: pass",
    )  # fmt: skip
    outcomes: set[Any] = set()
    for i in range(40):
        try:
            outcomes.add((await box.write("f", b"%d" % i * 30_000)).size > 0)
        except Exception as error:
            outcomes.add(type(error).__name__)
    assert outcomes <= {True, "FileProblem", "Overload"}, outcomes
    await box.ask(agent.Signal, Process, process=process.id, signal=9)
    while (await box.ask(agent.Inspect, Process, process=process.id)).state == "running":
        await asyncio.sleep(0.01)
    await box.write("f", b"at last")
    assert await box.read("f") == b"at last"


@pytest.mark.parametrize("size", [3, 60_000])
async def test_attributes_come_with_the_file_and_are_told_when_asked_for(
    box: Box, size: int
) -> None:
    noted = {"note.a": "one = 1", "note.b": "", "ü": "größe"}
    await box.write("f", bytes(size), attributes=noted)
    await box.sh("ln -s f l; mkdir d; mkfifo p; touch plain")
    assert (await box.stat("f")).attributes == {}
    for path in (b"f", b"l"):
        told = await box.stat(path, attributes=True)
        assert (told.size, told.attributes) == (size, noted)
    link = await box.stat("l", attributes=True, follow=False)
    assert link.attributes == {}
    names = "import os; print(sorted(os.listxattr('f')))"
    assert await box.sh(f'python3 -c "{names}"') == (
        "['user.note.a', 'user.note.b', 'user.ü']\n".encode()
    )
    listed = await box.page("/work", limit=2, attributes=True)
    rest = await box.page("/work", attributes=True, cursor=listed.next_cursor)
    found = {entry.path: entry.attributes for entry in (*listed.entries, *rest.entries)}
    assert len(listed.entries) == 2
    assert {path: noted_of for path, noted_of in found.items() if noted_of} == {"/work/f": noted}
    await box.write("f", b"anew")
    assert (await box.stat("f", attributes=True)).attributes == {}


async def test_names_that_are_none_and_too_many_attributes_are_refused(box: Box) -> None:
    for wrong in ({"a=b": "c"}, {"a\n": "b"}, {"a": "x" * 4096, "b": "x" * 4096}, {"x" * 300: ""}):
        with pytest.raises((InvalidRequest, FileProblem)):
            await box.write("f", b"", attributes=wrong)
    assert await box.sh("ls -A") == b""
