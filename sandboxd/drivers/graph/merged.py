"""Layers looked at as the one tree that an overlay of them shows, read-only and without a mount.

The trees are ours: unpacked layers, which nobody changes. Links are followed only within the merged
tree, by hand: the host never follows one.
"""

import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from msgspec import Struct

_STEPS_MAX = 400
"""Path components, those of links included, after which a path counts as a loop."""
_OPAQUE = "trusted.overlay.opaque"


class Node(Struct, frozen=True):
    """A file, a link, or a directory that several layers may make up."""

    path: PurePosixPath
    """Inside."""
    places: tuple[Path, ...]
    """On the host, the topmost first; one unless it is a directory."""
    status: os.stat_result

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)


class Merged:
    def __init__(self, layers: Sequence[Path], uid_base: int = 0) -> None:
        """`layers` from the top down; `uid_base` is what their owners on disk begin at."""
        root = PurePosixPath("/")
        places = tuple(layers)
        self._root = Node(root, places, places[0].lstat()) if places else None
        self._uid_base = uid_base

    def get(self, path: PurePosixPath) -> Node | None:
        """What is at an absolute path, no link followed."""
        node = self._root
        for part in path.parts[1:]:
            if node is None or not node.is_dir:
                return None
            node = self._child(node, part)
        return node

    def resolve(self, path: PurePosixPath, *, follow_last: bool = True) -> PurePosixPath:
        """Where an absolute path leads with links followed; what does not exist stays as it is."""
        parts = deque(path.parts[1:])
        at = PurePosixPath("/")
        for _ in range(_STEPS_MAX):
            if not parts:
                return at
            part = parts.popleft()
            if part == "..":
                at = at.parent
                continue
            node = self.get(at / part)
            if node is None or not node.is_link or not (parts or follow_last):
                at = at / part
                continue
            target = PurePosixPath(node.places[0].readlink())
            if target.is_absolute():
                at = PurePosixPath("/")
            parts.extendleft(reversed(target.relative_to(target.anchor).parts))
        return path

    def children(self, node: Node) -> Iterator[Node]:
        """What a directory holds, by name."""
        names = {name for place in node.places for name in os.listdir(place)}  # noqa: PTH208
        for name in sorted(names):
            if (child := self._child(node, name)) is not None:
                yield child

    def owner(self, node: Node) -> tuple[int, int]:
        """uid and gid as the image has them."""
        return node.status.st_uid - self._uid_base, node.status.st_gid - self._uid_base

    def read(self, path: PurePosixPath, limit: int) -> bytes:
        """A regular file's content with links followed, at most `limit` bytes; empty if none."""
        node = self.get(self.resolve(path))
        if node is None or not node.is_file or node.status.st_size > limit:
            return b""
        return node.places[0].read_bytes()

    def _child(self, node: Node, name: str) -> Node | None:
        places = below(node.places, name)
        if not places:
            return None
        return Node(node.path / name, tuple(places), places[0].lstat())


def below(directories: Sequence[Path], part: str) -> list[Path]:
    """What merged directories have under a name: one thing, or the directories that merge there."""
    found: list[Path] = []
    for directory in directories:
        place = directory / part
        try:
            status = place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            break  # a whiteout
        if not stat.S_ISDIR(status.st_mode):
            if not found:
                found.append(place)
            break
        found.append(place)
        if _is_opaque(place):
            break
    return found


def _is_opaque(directory: Path) -> bool:
    try:
        return os.getxattr(directory, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False
