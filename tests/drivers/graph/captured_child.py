"""Takes the unpacking child over, as a bug in a decompressor would, and tries the host from inside.

`attempts` starts the real child with the tree writer replaced by a list of deeds; a deed that succeeds is
reported by its name. The child ends by SIGSYS at the first call that its filter kills, so each deed has
a child of its own.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from sandboxd.drivers.graph.unpack import parent
from sandboxd.settings import Settings

_START = """
import sys; sys.path.insert(0, sys.argv.pop(1)); deed = sys.argv.pop(1)
import os, socket
from sandboxd.drivers.graph.unpack import child
def taken_over(root, source, limits):
    exec(deed, {"os": os, "socket": socket, "root": root})
    return {"succeeded": True}
child._unpack = taken_over
child.main()
"""
DEEDS = {
    "read a host file": "os.close(os.open('/etc/passwd', os.O_RDONLY))",
    "climb out of the root": "os.close(os.open('../../../etc/passwd', os.O_RDONLY))",
    "climb from the directory": "os.close(os.open('../outside', os.O_RDONLY, dir_fd=root))",
    "make a device": "os.mknod('d', 0o60000 | 0o666, os.makedev(8, 0), dir_fd=root)",
    "set a host attribute": "f = os.open('f', os.O_CREAT | os.O_WRONLY, dir_fd=root); "
    "os.setxattr(f, 'trusted.overlay.opaque', b'y')",
    "run a program": "os.execv('/bin/true', ['true'])",
    "fork": "os.fork()",
    "open a socket": "socket.socket()",
    "change root": "os.chroot('.')",
    "kill the parent": "os.kill(os.getppid(), 9)",
    "give a file to host root": "f = os.open('f', os.O_CREAT | os.O_WRONLY, dir_fd=root); "
    "os.fchown(f, 70000, 70000)",
}


def attempts(directory: Path) -> dict[str, str]:
    """Deeds that succeeded, and what the child said."""
    (directory / "outside").write_text("untouched")
    blob = directory / "blob"
    blob.write_bytes(bytes(1024))
    done = {}
    for number, (name, deed) in enumerate(DEEDS.items()):
        target = directory / f"layer{number}"
        target.mkdir()
        code, said, err = _run(deed, blob, target)
        if b"succeeded" in said:
            done[name] = said.decode()
        else:
            refused = code == -signal.SIGSYS or b"failed" in said or b"Error" in err
            assert refused, (name, code, said, err)
    return done


def _run(deed: str, blob: Path, target: Path) -> tuple[int, bytes, bytes]:
    base = Settings().graph.uid_base
    os.chown(target, base, base)
    blob_fd, target_fd = os.open(blob, os.O_RDONLY), os.open(target, os.O_RDONLY)
    ours, theirs = socket.socketpair()
    child = subprocess.Popen(
        [
            sys.executable, "-I", "-c", _START, str(parent._PACKAGE), deed,
            *map(str, (blob_fd, target_fd, theirs.fileno(), os.getpid(), 100, 1 << 20)),
        ],
        pass_fds=(blob_fd, target_fd, theirs.fileno()),
        stderr=subprocess.PIPE,
    )  # fmt: skip
    theirs.close()
    said = b""
    assert ours.recv(3) == b"map"
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{child.pid}/{name}").write_text(f"0 {base} {parent.IDS}")
    ours.sendall(parent._program())
    while part := ours.recv(65536):
        said += part
    assert child.stderr is not None
    err = child.stderr.read()
    child.stderr.close()
    for fd in (blob_fd, target_fd):
        os.close(fd)
    ours.close()
    return child.wait(), said, err
