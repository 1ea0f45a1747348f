"""A template in Python: what a Dockerfile says, step by step, and the files that it needs.

Pure but for reading the files; every method returns a new template.
"""

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sandboxd_client.store import PATIENCE, OnProgress, TemplateInfo

if TYPE_CHECKING:
    from sandboxd_client.async_client import AsyncClient
    from sandboxd_client.sync_client import Client


@dataclass(frozen=True, slots=True)
class Template:
    """Begin with `Template.from_image`; end with `build` or `abuild`."""

    lines: tuple[str, ...]
    sources: tuple[Path, ...] = ()

    @classmethod
    def from_image(cls, image: str) -> "Template":
        return cls((f"FROM {_word(image)}",))

    def run(self, command: str | Sequence[str]) -> "Template":
        """A shell's line, or an argv. Runs as root unless `user` came before, without a network."""
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        return self._and(f"RUN {json.dumps(argv)}")

    def copy(self, source: str | Path, target: str) -> "Template":
        """A file, or what is in a directory, from this machine. A target that ends in / is a
        directory."""
        path = Path(source)
        inside = f"c{len(self.sources)}"
        if not path.is_dir():
            inside = f"{inside}/{path.name}"
        made = self._and(f"COPY {json.dumps([_quoted(inside), _quoted(target)])}")
        return replace(made, sources=(*self.sources, path))

    def env(self, **variables: str) -> "Template":
        pairs = " ".join(f"{_word(name)}={_quoted(text)}" for name, text in variables.items())
        return self._and(f"ENV {pairs}") if pairs else self

    def workdir(self, path: str) -> "Template":
        return self._and(f"WORKDIR {_quoted(path)}")

    def user(self, name: str) -> "Template":
        return self._and(f"USER {_word(name)}")

    def cmd(self, *argv: str) -> "Template":
        return self._and(f"CMD {json.dumps(list(argv))}")

    @property
    def dockerfile(self) -> str:
        return "\n".join(self.lines) + "\n"

    def context(self) -> bytes:
        """The archive of the files to be copied. Reads them."""
        buffer = io.BytesIO()
        with tarfile.open(mode="w", fileobj=buffer, format=tarfile.PAX_FORMAT) as archive:
            for number, path in enumerate(self.sources):
                name = f"c{number}" if path.is_dir() else f"c{number}/{path.name}"
                archive.add(path, arcname=name)
        return buffer.getvalue()

    def build(
        self,
        name: str,
        *,
        client: "Client | None" = None,
        pool: tuple[int, int] = (0, 8),
        base: str = "default",
        on_progress: OnProgress | None = None,
        timeout: float = PATIENCE,
    ) -> TemplateInfo:
        """Builds the image `name` and makes it the template `name`, of which between `pool`'s two
        numbers of sandboxes are kept warm. Without a client, one that the environment describes."""
        from sandboxd_client.sync_client import Client

        if client is None:
            with Client() as own:
                return self.build(
                    name, client=own, pool=pool, base=base, on_progress=on_progress, timeout=timeout
                )
        client.images.build(
            name, self.context(), dockerfile=self.dockerfile, on_progress=on_progress,
            timeout=timeout,
        )  # fmt: skip
        return client.templates.put(name, name, pool=pool, base=base)

    async def abuild(
        self,
        name: str,
        *,
        client: "AsyncClient | None" = None,
        pool: tuple[int, int] = (0, 8),
        base: str = "default",
        on_progress: OnProgress | None = None,
        timeout: float = PATIENCE,
    ) -> TemplateInfo:
        """See `build`. Reads the files on the event loop's own thread."""
        from sandboxd_client.async_client import AsyncClient

        if client is None:
            async with AsyncClient() as own:
                return await self.abuild(
                    name, client=own, pool=pool, base=base, on_progress=on_progress, timeout=timeout
                )
        await client.images.build(
            name, self.context(), dockerfile=self.dockerfile, on_progress=on_progress,
            timeout=timeout,
        )  # fmt: skip
        return await client.templates.put(name, name, pool=pool, base=base)

    def _and(self, line: str) -> "Template":
        return replace(self, lines=(*self.lines, line))


def _quoted(text: str) -> str:
    """As a word of a Dockerfile that means exactly `text`."""
    if "\n" in text or "\0" in text:
        raise ValueError(f"{text!r} holds a line break, which no word of a template can")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def _word(text: str) -> str:
    if not text or any(char.isspace() or char in "\"'\\$=\0" for char in text):
        raise ValueError(f"{text!r} is not a plain word")
    return text
