"""A directory as the archive of a build's context."""

import io
import tarfile
from pathlib import Path


def pack(directory: Path) -> bytes:
    """A tar of what is in it; devices and sockets stay out. What its `.dockerignore` names is left
    out by the service. Raises OSError."""
    buffer = io.BytesIO()
    with tarfile.open(mode="w", fileobj=buffer, format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(directory.iterdir()):
            archive.add(
                path, arcname=path.name, filter=lambda entry: None if entry.isdev() else entry
            )
    return buffer.getvalue()
