"""An image as a sandbox gets it: directories to put an overlay on, and how its author meant it."""

import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from msgspec import Struct

from sandboxd.drivers.graph.merged import below
from sandboxd.native import Bind

_STEPS_MAX = 400
"""Path components, those of links included, after which a path counts as a loop."""


class Hold(Protocol):
    """Keeps an image's layers on the disk: once per sandbox that is built on them."""

    def take(self) -> None: ...

    def drop(self) -> None: ...


class Image(Struct, frozen=True, kw_only=True):
    """A root file system to put an overlay on."""

    name: str
    lower: Path
    """Its topmost layer."""
    below: tuple[Path, ...] = ()
    """The other layers, from the top down."""
    binds: tuple[Bind, ...]
    digest: str = ""
    """Of its manifest; empty for the host's own."""
    uid_base: int | None = None
    """First owner of the layers' files on disk; they are mapped to the sandbox's range. None: the
    files are the host root's and stay so."""
    root_base: int | None = None
    """The same for sandboxes that have a root, which may then change them; others do not need it."""
    env: tuple[tuple[str, str], ...] = ()
    workdir: str = ""
    """Where commands start; empty: in /work."""
    hold: Hold | None = None

    def has(self, path: str) -> bool:
        """Whether an absolute path exists in the image, as the sandbox would see it.

        Links are followed within the image: one that leads to a place of the host's that the image
        lacks is a dangling one inside.
        """
        parts = deque(Path(path).parts[1:])
        at = PurePosixPath("/")
        for _ in range(_STEPS_MAX):
            if not parts:
                return self._place(at) is not None
            part = parts.popleft()
            if part == "..":
                at = at.parent
                continue
            place = self._place(at / part)
            if place is None or not place.is_symlink():
                at = at / part
                continue
            target = PurePosixPath(place.readlink())
            if target.is_absolute():
                at = PurePosixPath("/")
            parts.extendleft(reversed(target.relative_to(target.anchor).parts))
        return False

    def _place(self, path: PurePosixPath) -> Path | None:
        """Where on the host the image's `path` is, its last link not followed."""
        for bind in self.binds:
            if path.is_relative_to(bind.target):
                place = Path(bind.source) / path.relative_to(bind.target)
                return place if os.path.lexists(place) else None
        found: Sequence[Path] = (self.lower, *self.below)
        for part in path.parts[1:]:
            found = below(found, part)
        return found[0] if found else None
