"""The kernel's end of its line to the gateway: JSON documents, one a line, in and out.

The line is what the process was given as stdin and stdout. They are moved out of the way before
anything else runs: descriptor 0 is empty, 1 and 2 are pipes whose content becomes events as well, so
that what a child process or a C library prints is heard like what Python prints.
"""

import array
import base64
import fcntl
import io
import json
import os
import select
import sys
import termios
import threading
import time

TEXT_MAX = 1 << 20
"""Bytes of the text of one result, of a traceback."""
VALUE_MAX = 8 << 20
"""Bytes of one format of a result."""
EVENT_MAX = 12 << 20
"""Bytes of all formats of a result together."""
_PIECE = 32 << 10
"""Characters of one event of output."""
_PAUSE = 0.02
"""Seconds that output may wait for more of it."""


class Wire:
    """Takes the line over. One per process."""

    def __init__(self):
        self.run = None
        """Whose events are sent: the id of the run that is under way, or None between two."""
        self._lock = threading.RLock()
        self._out = os.dup(1)
        self.input = os.fdopen(os.dup(0), "rb")
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        self._texts = {}
        for fd, name in ((1, "stdout"), (2, "stderr")):
            read, write = os.pipe()
            os.dup2(write, fd)
            os.close(write)
            os.set_blocking(read, False)
            self._texts[name] = _Pipe(read)
        self._pending, self._size, self._pending_of, self._since = [], 0, None, 0.0
        self._news = threading.Event()
        self.parent = os.getpid()
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._flush_late, daemon=True).start()
        os.register_at_fork(after_in_child=self._in_child)

    def _in_child(self):
        """A fork of the program's: it has no threads to speak for it, but the pipes are heard."""
        self._lock = threading.RLock()
        self._pending, self._size = [], 0

    def requests(self):
        """Documents from the gateway, to the end of the line."""
        for line in self.input:
            yield json.loads(line)

    def send(self, type, **fields):
        """One event, after all output that came before it."""
        with self._lock:
            self.settle()
            self._write(type, fields)

    def _write(self, type, fields):
        document = {"type": type, "run": self.run, **fields}
        data = memoryview(json.dumps(document, allow_nan=False).encode() + b"\n")
        while data:
            data = data[os.write(self._out, data) :]

    def text(self, name, text):
        """Output of the program, on `stdout` or `stderr`."""
        if os.getpid() != self.parent:
            os.write(1 if name == "stdout" else 2, text.encode("utf-8", "backslashreplace"))
            return
        with self._lock:
            self._take_pipes()
            self._add(name, text)

    def _add(self, name, text):
        if not text:
            return
        if self._pending_of != name:
            self._flush()
            self._pending_of = name
        if not self._pending:
            self._since = time.monotonic()
            self._news.set()
        self._pending.append(text)
        self._size += len(text)
        if self._size > _PIECE or time.monotonic() - self._since > _PAUSE:
            self._flush()

    def _flush(self):
        text = "".join(self._pending)
        self._pending, self._size = [], 0
        text = text.encode("utf-8", "backslashreplace").decode()  # lone surrogates are no UTF-8
        for at in range(0, len(text), _PIECE):
            self._write(self._pending_of, {"text": text[at : at + _PIECE], "time": time.time()})

    def settle(self):
        """Everything that was printed until now has been sent."""
        with self._lock:
            self._take_pipes()
            self._flush()

    def _take_pipes(self):
        for name, pipe in self._texts.items():
            self._add(name, pipe.read())

    def _listen(self):
        """Hears the pipes while the program is busy."""
        poll = select.poll()
        for pipe in self._texts.values():
            poll.register(pipe.fd, select.POLLIN)
        while True:
            poll.poll()
            with self._lock:
                self._take_pipes()

    def _flush_late(self):
        while True:
            self._news.wait()
            self._news.clear()
            time.sleep(_PAUSE)
            with self._lock:
                self._flush()


class _Pipe:
    """What is written to a descriptor, as text."""

    def __init__(self, fd):
        import codecs

        self.fd = fd
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._size = array.array("i", [0])

    def read(self):
        """What is there, which may be nothing."""
        fcntl.ioctl(self.fd, termios.FIONREAD, self._size)
        return self._decode(os.read(self.fd, self._size[0])) if self._size[0] else ""


class Stream(io.TextIOBase):
    """`sys.stdout` and `sys.stderr` of the program."""

    encoding, errors, newlines = "utf-8", "backslashreplace", None

    def __init__(self, wire, name):
        self._wire, self.name = wire, f"<{name}>"
        self._stream = name
        self.buffer = os.fdopen(os.dup(self.fileno()), "wb", 0)

    def fileno(self):
        return 1 if self._stream == "stdout" else 2

    def writable(self):
        return True

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._wire.text(self._stream, text)
        return len(text)

    def flush(self):
        if os.getpid() == self._wire.parent:
            self._wire.settle()


class NoInput(io.TextIOBase):
    """`sys.stdin` of the program."""

    encoding, name = "utf-8", "<stdin>"

    def fileno(self):
        return 0

    def readable(self):
        return True

    def read(self, size=-1):
        raise refused()

    def readline(self, size=-1):
        raise refused()


def refused(*_, **__):
    return RuntimeError("input() is not possible here: a context has nobody who could answer")


def use_streams(wire):
    sys.stdout, sys.stderr, sys.stdin = Stream(wire, "stdout"), Stream(wire, "stderr"), NoInput()


def bounded(formats):
    """Formats of a result within their bounds, and the names of those that were not."""
    kept, dropped, room = {}, [], EVENT_MAX
    for name, value in formats.items():
        if isinstance(value, bytes):
            value = base64.b64encode(value).decode()
        if isinstance(value, str):
            value = value.encode("utf-8", "backslashreplace").decode()
            if name == "text" and len(value) > TEXT_MAX:
                value = shortened(value)
                dropped.append(name)
        try:
            size = len(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            dropped.append(name)
            continue
        if size > min(VALUE_MAX, room):
            if name not in dropped:
                dropped.append(name)
            continue
        room -= size
        kept[name] = value
    return kept, dropped


def shortened(text):
    if len(text) <= TEXT_MAX:
        return text
    return f"{text[: TEXT_MAX - 64]}\n… {len(text) - TEXT_MAX + 64} characters more"
