"""What use of a network namespace leaves in it: the counts that the kernel keeps of it, as text.

Some counts among them are of the whole host: the memory of TCP and UDP, how many TCP sockets there are,
and how many of them nobody has. They change whenever anybody anywhere opens a connection, and tell
nothing of this namespace, whose own sockets are counted by kind beside them.
"""

import re

from sandboxd.errors import NativeFault
from sandboxd.native import netns_traces

_SOCKETS = b"sockets: used"
_HOST_WIDE = re.compile(rb" (?:orphan|alloc|mem) \d+")


def traces(namespace: int) -> bytes | None:
    """Equal ones of a namespace mean that it was not used in between; None if they tell nothing: there
    are more sockets than are worth reading."""
    try:
        counts = netns_traces(namespace)
    except NativeFault:
        return None
    head, mark, sockets = counts.partition(_SOCKETS)
    return head + mark + _HOST_WIDE.sub(b"", sockets)
