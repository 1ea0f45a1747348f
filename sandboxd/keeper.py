"""Keeps descriptors for the node while it is dead: `keeper.py PATH` serves on a unix socket there.

What a sandbox that lives needs to go on is held open: its init's control socket, the pipes of its
processes. The node hands it over by name, with what it has to know in a memory file; when it starts
again it gets all of it back. Nothing is looked into here, so there is next to nothing that can fail.

Messages (SOCK_SEQPACKET): `P` + name with descriptors puts, `D` + name drops it and what begins with
name + `/`, `L` asks for everything: one `E` + name with descriptors each, then one `.`.
"""

import array
import os
import resource
import selectors
import socket
import sys

FDS_MAX = 64
NAME_MAX = 200


class Keeper:
    def __init__(self, path: str) -> None:
        self._kept: dict[bytes, list[int]] = {}
        self._waits = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(path)
        os.chmod(path, 0o600)  # noqa: PTH101  nothing but what is needed is loaded here
        self._listener.listen(4)
        self._waits.register(self._listener, selectors.EVENT_READ)

    def serve(self) -> None:
        while True:
            for key, _ in self._waits.select():
                line = key.fileobj
                assert isinstance(line, socket.socket)
                if line is self._listener:
                    self._waits.register(line.accept()[0], selectors.EVENT_READ)
                elif not self._answer(line):
                    self._waits.unregister(line)
                    line.close()

    def _answer(self, line: socket.socket) -> bool:
        """One message; False at the end of the line."""
        try:
            message, fds, flags, _ = socket.recv_fds(line, NAME_MAX + 1, FDS_MAX)
        except ConnectionError:
            return False
        if not message:
            return False
        name = message[1:]
        if message[:1] == b"P" and not flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
            self._close(self._kept.pop(name, []))
            self._kept[name] = fds
            return True
        self._close(fds)
        if message[:1] == b"D":
            for kept in [k for k in self._kept if k == name or k.startswith(name + b"/")]:
                self._close(self._kept.pop(kept))
        elif message[:1] == b"L":
            return self._tell(line)
        return True

    def _tell(self, line: socket.socket) -> bool:
        try:
            for name, fds in self._kept.items():
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
                line.sendmsg([b"E" + name], [rights] if fds else [])
            line.send(b".")
        except ConnectionError:
            return False
        return True

    def _close(self, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)


def main() -> None:
    (path,) = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if os.path.lexists(path):
        os.unlink(path)  # noqa: PTH108
    Keeper(path).serve()


if __name__ == "__main__":
    main()
