"""What a job does to its streams and leaves for the host to read."""

from typing import Any

from tests.attack.case import command, probe
from tests.attack.judging import Program
from tests.matrix.case import Expect
from tests.matrix.expectation import exits, ok, over_output, over_wall, signalled

MiB = 1 << 20


def _stream(id_: str, name: str, promise: str, expect: Any, **more: Any) -> Program:
    return Program(f"stream-{id_}", promise, probe("stream", name, **more), expect, "streams")


def _left(id_: str, promise: str, script: str, wanted: dict[str, Any], **more: Any) -> Program:
    """A shell script leaves things in /work; `wanted` says what comes out, or why not."""
    files = {name: value for name, value in wanted.items() if isinstance(value, bytes)}
    errors = {name: value for name, value in wanted.items() if isinstance(value, tuple)}
    body = command("sh", "-c", script, collect=list(wanted), **more)
    return Program(f"left-{id_}", promise, body, ok(files=files, file_errors=errors), "left behind")


_NOT_FOUND, _NOT_REGULAR, _DENIED = ("not_found",), ("not_regular",), ("denied",)
_RACE = """
import os, threading, time
os.mkdir("real"); open("real/f", "w").write("mine"); os.symlink("/opt/attack", "link")
stop = time.monotonic() + 0.5
if os.fork() == 0:
    os.setsid()
    while True:
        try:
            os.rename("real", "d"); os.rename("d", "real"); os.rename("link", "d"); os.rename("d", "link")
        except OSError:
            pass
time.sleep(0.3)
"""
_SWAP = """
import os
open("f", "w").write("mine"); os.symlink("/opt/attack/secret", "s")
if os.fork() == 0:
    os.setsid()
    while True:
        os.rename("f", "t"); os.rename("s", "f"); os.rename("f", "s"); os.rename("t", "f")
"""


def _mine_or_none(answer: dict[str, Any]) -> str:
    values = [content.get("text") for content in answer["files"].values()]
    return "" if all(value in ("mine", "") for value in values) else f"a byte of another: {values}"


def _raced(id_: str, promise: str, source: str, collect: list[str]) -> Program:
    """Either answer is right, as long as no foreign byte comes out."""
    body = command("python3", "-c", source, collect=collect)
    return Program(f"left-{id_}", promise, body, None, "left behind", _mine_or_none)


CASES = (
    _stream("forge", "forge", "no descriptor leads to init", exits(3, stdout=b'{"reached": "0"}\n')),
    _stream("forge-output", "forge_in_output", "control messages in output are output",
            exits(4, stdout_len=256, stderr_len=256)),
    _stream("close-all", "close_all", "closing everything changes no verdict", ok(stdout=b"")),
    _stream("close-range", "close_range", "nor does closing the whole range", ok(stdout=b"")),
    _stream("packets", "packets", "a pipe in packet mode is a pipe", ok(stdout=b"x" * 20_000)),
    _stream("shrink", "shrink", "a pipe made small and non-blocking is a pipe",
            ok(stdout=b"y" * 100_000)),
    _stream("steal", "steal_output", "who reads his own output takes it from himself alone", ok()),
    _stream("grow-input", "grow_input", "a given stdin that is written and grown is the job's memory",
            Expect(status="disk_exceeded"), stdin="x", limits={"memory": 96 * MiB}),
    _stream("flood-output", "flood_output", "output ends at the cap",
            over_output(stdout_len=4096, stdout_truncated=True), limits={"output": 4096}),
    _stream("flood-error", "flood_error", "so does stderr",
            over_output(stderr_len=4096, stderr_truncated=True), limits={"output": 4096}),
    _stream("flood-large", "flood_output", "the largest cap holds as well",
            over_output(stdout_len=16 * MiB, stdout_truncated=True), limits={"output": 16 * MiB}),
    _stream("keep", "keep_output", "a result comes though a daemon holds stdout", ok(stdout=b"")),
    _stream("pass-fds", "pass_fds", "no descriptor takes a descriptor", ok(stdout=b'{"reached": "0"}\n')),
    _stream("escapes", "escapes", "escape sequences and broken text arrive as bytes",
            ok(stdout=b"\x1b]0;owned\x07\x1b[2J\r\nHTTP/1.1 200 OK\r\n\r\n\xff\xfe\0\"}\0")),
    _stream("signals-to-init", "signals_to_init", "init outlives every signal",
            exits(6, stdout=b'{"init": "there"}\n')),
    _stream("signals-to-all", "signals_to_all", "kill(-1) reaches the job alone",
            exits(7, stdout=b'{"before": "x"}\n')),
    Program("stream-frozen", "a job that stops itself ends at its time",
            command("sh", "-c", "kill -STOP $$", limits={"wall_time": 0.3}), over_wall(0.3), "streams"),
    Program("stream-own-death", "a job that kills itself is told apart",
            command("sh", "-c", "kill -9 $$"), signalled("SIGKILL"), "streams"),
    Program("stream-exit-code", "an exit code is not a status of ours",
            command("sh", "-c", "exit 127"), exits(127), "streams"),
    _left("symlink", "a link to root's file stays a link", "ln -s /opt/attack/secret f",
          {"f": _NOT_REGULAR}),
    _left("symlink-chain", "so does a chain of links", "ln -s b a; ln -s c b; ln -s /etc/passwd c",
          {"a": _NOT_REGULAR}),
    _left("symlink-directory", "no way through a directory that is a link", "ln -s /etc d",
          {"d/passwd": _NOT_REGULAR}),
    _left("symlink-up", "nor through a link upwards", "ln -s .. d", {"d/etc/passwd": _NOT_REGULAR}),
    _left("symlink-proc", "nor through /proc", "ln -s /proc/self/root d; ln -s /proc/1/environ e",
          {"d/etc/passwd": _NOT_REGULAR, "e": _NOT_REGULAR}),
    _left("symlink-loop", "a loop ends", "ln -s a b; ln -s b a", {"a": _NOT_REGULAR}),
    _left("hard-link", "a hard link to a file of the image is refused",
          "ln /usr/bin/env f 2>/dev/null; ln /opt/attack/secret g 2>/dev/null; true",
          {"f": _NOT_FOUND, "g": _NOT_FOUND}),
    _left("hard-link-etc", "a hard link to the overlay's lower layer is at most a copy",
          "ln /etc/shadow f 2>/dev/null; true", {"f": _NOT_FOUND}),
    _left("fifo", "a fifo does not block the host", "mkfifo f", {"f": _NOT_REGULAR}),
    _left("fifo-writer", "nor one with a writer", "mkfifo f; (echo x > f) & sleep 0.1",
          {"f": _NOT_REGULAR}),
    _left("socket", "a socket is no file",
          "python3 -c 'import socket; socket.socket(1).bind(\"f\")'", {"f": _NOT_REGULAR}),
    _left("device", "a device cannot be made",
          "mknod f c 1 5 2>/dev/null; mknod g b 8 0 2>/dev/null; true",
          {"f": _NOT_FOUND, "g": _NOT_FOUND}),
    _left("directory", "a directory is no file", "mkdir f", {"f": _NOT_REGULAR}),
    _left("sparse", "a sparse file is as large as it says",
          "truncate -s 60M f", {"f": ("too_large",)}),
    _left("closed", "a file that the job may not read does not come out",
          "echo x > f; chmod 0 f", {"f": _DENIED}),
    _left("closed-directory", "nor one in a closed directory",
          "mkdir d; echo x > d/f; chmod 0 d", {"d/f": _DENIED}),
    _left("newline", "a name with a newline is a name", "echo x > 'a\nb'", {"a\nb": b"x\n"}),
    _left("escape", "so is one with an escape sequence", "echo x > \"$(printf 'a\\033[2Jb')\"",
          {"a\x1b[2Jb": b"x\n"}),
    _left("long-name", "and the longest", "echo x > " + "n" * 255, {"n" * 255: b"x\n"}),
    _left("dash", "and one that looks like an option", "echo x > ./--help", {"--help": b"x\n"}),
    _left("not-utf8", "a name that is not UTF-8 does not disturb the others",
          "echo x > \"$(printf 'a\\377')\"; echo y > f", {"f": b"y\n"}),
    _left("many", "ten thousand neighbours do not matter",
          "i=0; while [ $i -lt 3000 ]; do : > n$i; i=$((i+1)); done; echo y > f", {"f": b"y\n"}),
    _left("deep", "nor does a deep path", "mkdir -p " + "d/" * 200 + "; echo y > " + "d/" * 200 + "f",
          {"d/" * 200 + "f": b"y\n"}),
    _left("moved-away", "a working directory that was moved is no way out",
          "mkdir -p /tmp/x; mv /work/* /tmp/x 2>/dev/null; cd /tmp; echo y > f", {"f": _NOT_FOUND}),
    _left("full", "files come out of a full file system",
          "echo y > f; head -c 60M /dev/zero > g; head -c 60M /dev/zero > h; true", {"f": b"y\n"},
          limits={"disk": 16 * MiB, "memory": 64 * MiB}),
    _left("full-memory", "files come out though the memory is nearly full",
          "echo y > f; head -c 26M /dev/zero > g; true", {"f": b"y\n"},
          limits={"disk": 28 * MiB, "memory": 32 * MiB}),
    _left("growing", "a file that somebody keeps writing is read once he is dead",
          "echo y > f; (while :; do echo z >> g; done) & sleep 0.1", {"f": b"y\n"}),
    _raced("race-directory", "a directory that flips to a link gives no foreign byte", _RACE,
           ["d/f", "d/secret", "link/secret", "real/f"]),
    _raced("race-file", "nor does a file that flips to a link", _SWAP, ["f", "s"]),
)  # fmt: skip
