"""Sockets of the node that the gateway reaches."""

import os
import socket
from pathlib import Path


def bind(path: Path, uid: int) -> socket.socket:
    """A unix socket for root and `uid` alone, which has its owner before anybody can connect."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o710)
    os.chown(path.parent, 0, uid)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        os.chown(path, uid, uid)
        path.chmod(0o600)
    except OSError:
        listener.close()
        raise
    return listener
