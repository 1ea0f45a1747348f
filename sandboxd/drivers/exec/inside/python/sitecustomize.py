"""Holds a Python interpreter, inside its sandbox, at the moment before it opens its script.

The interpreter was started as `python3 main.py` under every lock of the sandbox; `site` imports this
module near the end of its start. It says that it is ready, waits for the one order, puts the job's
files, environment, arguments and streams in place, and takes every trace of itself away. Then the
interpreter goes on as always: it opens main.py and runs it as `__main__`, with no frame of ours.

Or it was started as a zygote, with every right and before any sandbox: then each sandbox gets a copy of
it that wakes up here, locked in, to read its order (native/zygote.c).

Nothing of a job exists before the order is read, and nothing here is a lock: those are on already.
Only built-in and C modules are used, so that a job finds `sys.modules` as a cold start leaves it.
"""

import _socket
import builtins
import os
import sys

ZYGOTE = "SANDBOXD_ZYGOTE"  # the variable that asks for one
MODULES = "SANDBOXD_MODULES"  # what to import ahead
SOCKET = 3  # the runner's end of the exec socket, left open for us
FAIL, ARMED, EXEC, ABI = 1, 5, 6, 5
RECEIVE_STAGE, FILES_STAGE, CWD_STAGE = 27, 28, 31  # numbers of proto.h
STDIN_NULL, BODY_FD = 1, 2
HEAD = 56
INLINE_MAX = 131_072

if ZYGOTE in os.environ:
    import _zygote


def _number(data, at, size=4):
    return int.from_bytes(data[at : at + size], "little")


def _order(socket, buffer):
    """The head and body of the order, and its descriptors (they close on exec)."""
    size, ancillary, flags, _ = socket.recvmsg_into(
        [buffer], _socket.CMSG_SPACE(4 * 8), _socket.MSG_CMSG_CLOEXEC
    )
    if not size:
        os._exit(0)  # the sandbox was discarded unused
    data = memoryview(buffer)[:size]
    fds = []
    for level, kind, payload in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            fds += [_number(payload, at) for at in range(0, len(payload), 4)]
    cut = _socket.MSG_TRUNC | _socket.MSG_CTRUNC
    if data[0] != EXEC or data[1] != ABI or flags & cut:
        raise OSError(71, "not an order")  # EPROTO
    head, body = data[:HEAD], data[HEAD:]
    if _number(head, 4) & BODY_FD:
        body, at, fd = bytearray(_number(head, 20)), 0, fds.pop()
        while at < len(body):
            piece = os.pread(fd, min(len(body) - at, 1 << 20), at)
            body[at : at + len(piece)] = piece
            at += len(piece)
        os.close(fd)
    return head, memoryview(body), fds


def _fields(body):
    at = 0
    while at < len(body):
        size = _number(body, at)
        yield body[at + 4 : at + 4 + size]
        at += 4 + size


def _text(field):
    return os.fsdecode(bytes(field[:-1]))


def _write(path, mode, content):
    parent = os.path.dirname(path)
    if parent:
        os.makedirs(parent, 0o755, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, mode)
    try:
        while content:
            content = content[os.write(fd, content) :]
    finally:
        os.close(fd)


def _stream(fd, name, mode, like):
    """A text stream as the interpreter makes its own, in the encoding that it has chosen."""
    buffer = builtins.open(fd, mode + "b", -1, closefd=False)
    buffer.raw.name = name
    text = type(like)(
        buffer,
        encoding=like.encoding,
        errors=like.errors,
        newline="\n",
        line_buffering=like.line_buffering,
        write_through=like.write_through,
    )
    text.mode = mode
    return text


def _streams(flags, fds):
    if flags & STDIN_NULL:
        fds = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC), *fds]
    for target, fd in enumerate(fds):
        os.dup2(fd, target)
        os.close(fd)
    sys.stdin = sys.__stdin__ = _stream(0, "<stdin>", "r", sys.stdin)
    sys.stdout = sys.__stdout__ = _stream(1, "<stdout>", "w", sys.stdout)
    sys.stderr = sys.__stderr__ = _stream(2, "<stderr>", "w", sys.stderr)


def _environment(variables):
    os.environ.clear()
    for variable in variables:
        name, _, value = variable.partition("=")
        os.environ[name] = value


def _carry_out(head, body, fds, progress):
    """Put everything in place. `progress` says what it was at, should it fail."""
    fields = _fields(body)
    cwd = _text(next(fields))
    argv = [_text(next(fields)) for _ in range(_number(head, 8))]
    _environment([_text(next(fields)) for _ in range(_number(head, 12))])
    for index in range(_number(head, 16)):
        progress[:] = FILES_STAGE, index
        path, mode, content = _text(next(fields)), _number(next(fields), 0), next(fields)
        _write(path, mode, content)
    progress[:] = CWD_STAGE, 0
    os.chdir(cwd)
    sys.argv[:] = argv[1:]
    sys.orig_argv[:] = argv
    _streams(_number(head, 4), fds)


def _say_ready():
    socket = _socket.socket(fileno=SOCKET)
    socket.send(bytes([ARMED, ABI, 0, 0, 0, 0, 0, 0]))
    socket.detach()


def _import():
    names = os.environ.get(MODULES, "").split()
    for name in names:
        __import__(name)
    if names:
        __import__("gc").freeze()  # a collection would write to all that copies share
    if ZYGOTE in os.environ and len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("a module has started threads, which no copy would have")


def _draw_anew():
    """What modules have drawn at random when they were imported. `random` does so itself at a fork,
    OpenSSL when its pid is another."""
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "multiprocessing.process" in sys.modules:
        sys.modules["multiprocessing.process"].current_process().authkey = os.urandom(32)


def _receive():
    """Wait for the order and carry it out."""
    socket = _socket.socket(fileno=SOCKET)
    progress = [RECEIVE_STAGE, 0]
    try:
        _carry_out(*_order(socket, _buffer), progress)
    except BaseException as error:
        # `site` would report it and go on to run what is there: the host decides instead.
        number = getattr(error, "errno", None) or 71  # EPROTO
        report = (progress[0], number, progress[1])
        socket.send(bytes([FAIL, ABI, 0, 0]) + b"".join(n.to_bytes(4, "little") for n in report))
        os._exit(127)
    socket.close()


def _wake():
    """The first of a zygote's copy, in its sandbox."""
    _draw_anew()
    _receive()


def _vanish(here):
    """Leave `sys` as if this module had never been, and give the image's own one its turn. Returns
    what `site` has to hear if there is none."""
    sys.path[:] = [entry for entry in sys.path if entry != here]
    sys.path_importer_cache.pop(here, None)
    for name in ("sitecustomize", "_socket", "_zygote"):
        sys.modules.pop(name, None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        return error


_import()
_none = _vanish(os.path.dirname(__file__))
_buffer = bytearray(HEAD + INLINE_MAX)
if ZYGOTE in os.environ:
    _zygote.hold_script(_wake)
    _say_ready()
else:
    _say_ready()
    _receive()
if _none is not None:
    raise _none
