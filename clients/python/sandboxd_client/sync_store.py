"""`client.images` and its like, for threads. Made of `async_store` by tools/unasync.py: do not edit."""

from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sandboxd_client.deadline import SHORT, Deadline
from sandboxd_client.local_files import write
from sandboxd_client.packing import pack
from sandboxd_client.store import (
    PATIENCE,
    Image,
    ImageDetail,
    OnProgress,
    StoreCore,
    TemplateInfo,
    Volume,
)

if TYPE_CHECKING:
    from sandboxd_client.sync_client import Client


class Images:
    """Your images, and those that the operator shares. Timeouts are in seconds."""

    def __init__(self, client: "Client", core: StoreCore) -> None:
        self._client, self._core = client, core

    def list(self, *, timeout: float = SHORT) -> tuple[Image, ...]:
        return self._client._do(self._core.images(Deadline(timeout)))

    def get(self, name: str, *, timeout: float = SHORT) -> ImageDetail:
        """By name or digest. Raises RequestError if there is none of yours or shared."""
        return self._client._do(self._core.image(name, Deadline(timeout)))

    def tag(self, name: str, new: str, *, timeout: float = SHORT) -> Image:
        return self._client._do(self._core.tag(name, new, Deadline(timeout)))

    def remove(self, name: str, *, timeout: float = SHORT) -> None:
        self._client._do(self._core.remove("images", name, Deadline(timeout)))

    def build(
        self,
        name: str,
        context: str | Path | bytes,
        *,
        dockerfile: str | None = None,
        build_args: Mapping[str, str] | None = None,
        target: str = "",
        on_progress: OnProgress | None = None,
        timeout: float = PATIENCE,
    ) -> Image:
        """`context` is a directory of this machine, or the bytes of a tar; `dockerfile` the text of
        one, else it is in the context. `on_progress` hears steps and output as they come."""
        data = context if isinstance(context, bytes) else pack(Path(context))
        flow = self._core.build(
            name, data, dockerfile, build_args or {}, target, Deadline(timeout), on_progress
        )
        return self._client._do(flow)

    def import_rootfs(
        self, name: str, archive: bytes | Path, *, on_progress: OnProgress | None = None,
        timeout: float = PATIENCE,
    ) -> Image:  # fmt: skip
        """A root file system, or any files, as a tar: plain, gzip or zstd."""
        data = archive if isinstance(archive, bytes) else archive.read_bytes()
        return self._client._do(self._core.import_(name, data, Deadline(timeout), on_progress))

    def export(
        self, name: str, target: str | Path | IO[bytes], *, timeout: float = PATIENCE
    ) -> int:
        """An archive of an image, an OCI layout which `docker load` takes too, into a file of this
        machine; how many bytes. A file that is named is there when all of it is."""
        if isinstance(target, str | Path):
            return self._save(name, Path(target), timeout)
        deadline, count = Deadline(timeout), 0
        exchange = self._client._exchange()
        try:
            exchange.drive(self._core.export(name, deadline))
            while (piece := exchange.drive(self._core.piece(deadline))) is not None:
                write(target, piece)
                count += len(piece)
        finally:
            exchange.close()
        return count

    def _save(self, name: str, target: Path, timeout: float) -> int:
        part = target.with_name(f"{target.name}.part")
        try:
            with part.open("wb") as file:
                count = self.export(name, file, timeout=timeout)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return count

    def pull(
        self, name: str, *, local: str | None = None, on_progress: OnProgress | None = None,
        timeout: float = PATIENCE,
    ) -> Image:  # fmt: skip
        """From a registry that the operator allows."""
        body = {"name": name} | ({"local": local} if local else {})
        return self._client._do(self._core.transfer("pull", body, Deadline(timeout), on_progress))

    def push(
        self, name: str, *, remote: str | None = None, on_progress: OnProgress | None = None,
        timeout: float = PATIENCE,
    ) -> Image:  # fmt: skip
        """To a registry that the operator allows."""
        body = {"name": name} | ({"remote": remote} if remote else {})
        return self._client._do(self._core.transfer("push", body, Deadline(timeout), on_progress))


class Volumes:
    """File systems that outlive sandboxes."""

    def __init__(self, client: "Client", core: StoreCore) -> None:
        self._client, self._core = client, core

    def list(self, *, timeout: float = SHORT) -> tuple[Volume, ...]:
        return self._client._do(self._core.volumes(Deadline(timeout)))

    def create(self, name: str, size: int, *, timeout: float = SHORT) -> Volume:
        """`size` in bytes: never more fits on it."""
        return self._client._do(self._core.create_volume(name, size, Deadline(timeout)))

    def remove(self, name: str, *, timeout: float = SHORT) -> None:
        """Raises RequestError (`conflict`) while a sandbox has it."""
        self._client._do(self._core.remove("volumes", name, Deadline(timeout)))


class Templates:
    """Images that are kept warm under a name."""

    def __init__(self, client: "Client", core: StoreCore) -> None:
        self._client, self._core = client, core

    def list(self, *, timeout: float = SHORT) -> tuple[TemplateInfo, ...]:
        return self._client._do(self._core.templates(Deadline(timeout)))

    def put(
        self, name: str, image: str, *, pool: tuple[int, int] = (0, 8), base: str = "default",
        timeout: float = SHORT,
    ) -> TemplateInfo:  # fmt: skip
        """Makes or changes it. `pool`: sandboxes kept ahead, at least and at most."""
        return self._client._do(self._core.put_template(name, image, base, pool, Deadline(timeout)))

    def remove(self, name: str, *, timeout: float = SHORT) -> None:
        self._client._do(self._core.remove("templates", name, Deadline(timeout)))
