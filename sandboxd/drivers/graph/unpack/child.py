"""The child that unpacks one layer: locks itself down, then reads the archive.

Started by `unpack.unpack` with three descriptors: the blob, the new layer's directory, and a socket to
the parent. Over the socket: a message `locked` with the seccomp program comes after the maps are
written; a JSON report goes back. Nothing here is imported late, since nothing can be once it is locked.
"""

import json
import os
import socket
import sys

from sandboxd.drivers.graph.unpack import lockdown
from sandboxd.drivers.graph.unpack.source import Source
from sandboxd.drivers.graph.unpack.tar import Malformed, entries, padding, printable
from sandboxd.drivers.graph.unpack.tree import Limits, Refused, Tree

_PROGRAM_MAX = 32_768


def main() -> None:
    blob, root, line, parent, entries_max, bytes_max = map(int, sys.argv[1:])
    control = socket.socket(fileno=line)
    os.umask(0)
    # It looks at four bytes and may import a decompressor, which is out of reach afterwards.
    source = Source(blob, bytes_max)
    lockdown.enter_directory(root)
    program = bytearray()

    def mapped() -> None:
        control.send(b"map")
        program.extend(lockdown.receive(control, _PROGRAM_MAX))

    lockdown.enter_userns(mapped)
    root = _reopened(root)
    lockdown.limit(bytes_max)
    lockdown.lock(parent, bytes(program))
    report = _unpack(root, source, Limits(entries_max, bytes_max))
    control.sendall(json.dumps(report).encode())
    os._exit(0)


def _reopened(root: int) -> int:
    """The directory through our own mount of it; the host's way to it is closed."""
    mine = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.close(root)
    return mine


def _unpack(root: int, source: Source, limits: Limits) -> dict[str, object]:
    tree = Tree(root, limits)
    name = b""
    try:
        for entry in entries(source.read):
            name = entry.name
            tree.add(entry, source.copy)
            source.read(padding(entry.size))
        opaque = tree.finish()
        digest = source.finish()
    except Refused as error:
        return {"refused": str(error)}
    except Malformed as error:
        return {"refused": f"at or after {printable(name)}: {error}"}
    except OSError as error:
        return {"failed": f"{printable(name)}: {error.strerror}"}
    finally:
        tree.close()
    return {
        "diff_id": digest,
        "entries": tree.entries,
        "bytes": source.total,
        "left_out": tree.left_out,
        "opaque": [os.fsdecode(path) for path in opaque],
    }
