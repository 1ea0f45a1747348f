"""`--volume` and `--data` of commands that start sandboxes."""

from typing import Any

import click


def volume(text: str) -> dict[str, Any]:
    """`NAME:PATH`, or `NAME:PATH:ro`. Raises BadParameter."""
    name, _, rest = text.partition(":")
    path, colon, mode = rest.partition(":")
    if not name or not path.startswith("/") or (colon and mode not in ("ro", "rw")):
        raise click.BadParameter(f"{text!r}: --volume takes NAME:PATH or NAME:PATH:ro")
    return {"name": name, "path": path, "read_only": mode == "ro"}


def data(text: str) -> dict[str, Any]:
    """`DIGEST:PATH`. Raises BadParameter."""
    digest, _, path = text.rpartition(":")
    if not digest.startswith("sha256:") or not path.startswith("/"):
        raise click.BadParameter(f"{text!r}: --data takes sha256:…:PATH")
    return {"digest": digest, "path": path}
