"""Files that come out of a sandbox, by descriptors that its init opened inside."""

import errno
import os

from msgspec import Struct

from sandboxd.native import Opened


class Brought(Struct, frozen=True):
    """A file that came out, or why it did not."""

    name: str
    data: bytes | None
    errno: int = 0


def read(name: str, opened: Opened, budget: int) -> Brought:
    """All of a file if it is within the budget. Its size is what can be read, not what stat says."""
    data = bytearray()
    try:
        while len(data) <= budget:
            chunk = os.read(opened.fd, min(1 << 20, budget + 1 - len(data)))
            if not chunk:
                return Brought(name, bytes(data))
            data += chunk
        return Brought(name, None, errno.EFBIG)
    except OSError as error:
        return Brought(name, None, error.errno or errno.EIO)
    finally:
        os.close(opened.fd)
