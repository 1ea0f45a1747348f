"""Changes of a directory in E2B's words. Pure."""

import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

from sandboxd.model.session import FileChange, FileEvent

_TYPES = {
    FileChange.CREATED: "EVENT_TYPE_CREATE",
    FileChange.MODIFIED: "EVENT_TYPE_WRITE",
    FileChange.REMOVED: "EVENT_TYPE_REMOVE",
    FileChange.MOVED_FROM: "EVENT_TYPE_RENAME",
    FileChange.MOVED_TO: "EVENT_TYPE_CREATE",
    FileChange.ATTRIBUTES: "EVENT_TYPE_CHMOD",
}
"""There is no word for an overflow: whoever watches too much learns of it by what is missing."""


def changes(events: Sequence[FileEvent], top: bytes) -> Iterator[dict[str, Any]]:
    """`name` below the directory that is watched, `type`, and the whole `path`."""
    root = top.decode(errors="replace")
    for event in events:
        kind = _TYPES.get(event.change)
        if kind is not None:
            name = posixpath.relpath(event.path, root)
            yield {"name": name, "type": kind, "path": event.path}
