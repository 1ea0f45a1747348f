"""The images and volumes of this node, as tenants may use them. Every method blocks but `build`."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from sandboxd.drivers.graph import exporting, importing, registry, tenancy
from sandboxd.drivers.graph.builder.build import Build
from sandboxd.drivers.graph.builder.context import unpacked
from sandboxd.drivers.graph.images import full_name
from sandboxd.drivers.graph.merged import Merged
from sandboxd.drivers.graph.store import BlobWriter, Lease
from sandboxd.drivers.graph.volumes import Volume
from sandboxd.errors import (
    BodyTooLarge,
    DriverFault,
    Forbidden,
    InvalidDockerfile,
)
from sandboxd.model import merge
from sandboxd.model.building import Progress
from sandboxd.model.images_wire import BuildImage
from sandboxd.model.stored import (
    ImageDetail,
    ImageInfo,
    ImageList,
    ImageTag,
    ImageTransfer,
    VolumeInfo,
    VolumeList,
    VolumeRequest,
)
from sandboxd.node.building import TEMPLATE, StepRunner
from sandboxd.node.host import Host
from sandboxd.settings import GraphSettings, Quotas

Tell = Callable[[Progress], None]
_DOCKERFILE_MAX = 1 << 20


class Upload:
    """An archive on its way in, below a cap."""

    def __init__(self, writer: BlobWriter, lease: Lease, path: Path, most: int) -> None:
        self._writer, self.lease, self.path, self._most = writer, lease, path, most

    def write(self, data: bytes) -> None:
        """Raises BodyTooLarge."""
        if self._writer.size + len(data) > self._most:
            raise BodyTooLarge(f"the archive has more than {self._most} bytes")
        self._writer.write(data)


class Library:
    def __init__(
        self, host: Host, settings: GraphSettings, quotas: Callable[[str], Quotas]
    ) -> None:
        self._host, self._settings, self._quotas = host, settings, quotas
        self._graph, self._images = host.graph, host.graph.images

    # Images

    def list(self, tenant: str) -> ImageList:
        return ImageList(images=[
            ImageInfo(
                name=name, digest=row.digest, created_at=row.created, layers=row.layers,
                size=row.size, shared=shared,
            )
            for row, name, shared in tenancy.summaries(self._images, tenant)
        ])  # fmt: skip

    def detail(self, tenant: str, name: str) -> ImageDetail:
        digest = tenancy.resolve(self._images, tenant, name)
        details = self._images.details(digest)
        config = details.config.config
        return ImageDetail(
            name=name,
            digest=digest,
            created_at=details.config.created,
            size=sum(layer.size for layer in details.manifest.layers),
            env=(config and config.env) or [],
            workdir=(config and config.working_dir) or "",
            command=[*((config and config.entrypoint) or []), *((config and config.cmd) or [])],
            labels=(config and config.labels) or {},
            history=[step.created_by for step in details.config.history or []],
        )

    def remove(self, tenant: str, name: str) -> None:
        """Raises UnknownImage; the operator's own are not to be removed here."""
        self._graph.store.untag(tenancy.stored_name(tenant, name))

    def tag(self, tenant: str, request: ImageTag) -> ImageInfo:
        digest = tenancy.resolve(self._images, tenant, request.name)
        with self._graph.store.leasing(digest):
            return self._keep(tenant, request.new, digest)

    def pull(self, tenant: str, request: ImageTransfer, tell: Tell) -> ImageInfo:
        remote = self._allowed(request.name)
        local = request.local or f"{remote.repository}:{remote.tag}"
        tenancy.stored_name(tenant, local)
        with self._graph.store.leasing() as lease, registry.Client(remote) as client:
            digest = registry.pull(client, self._images, lease, _progress(tell))
            return self._keep(tenant, local, digest)

    def push(self, tenant: str, request: ImageTransfer, tell: Tell) -> ImageInfo:
        remote = self._allowed(request.remote or request.name)
        digest = tenancy.resolve(self._images, tenant, request.name)
        with (
            self._graph.store.leasing(digest),
            registry.Client(remote, push=True) as client,
        ):
            registry.push(client, self._images, digest, _progress(tell))
        return self._info(request.name, digest, shared=False)

    def export(self, tenant: str, name: str, out: exporting.Sink) -> None:
        """An archive of an image, as `sandboxd image export` writes it."""
        digest = tenancy.resolve(self._images, tenant, name)
        called = "" if name.startswith("sha256:") else full_name(name)
        with self._graph.store.leasing(digest):
            exporting.to_archive(self._images, digest, called, out)

    def import_(self, tenant: str, name: str, upload: Upload) -> ImageInfo:
        """Of an image that was exported, or of a root file system. Files alone may have a
        manifest.json, so that says nothing here."""
        tenancy.stored_name(tenant, name)
        if importing.is_archive_of_images(upload.path, ["oci-layout"]):
            digest = importing.from_archive(self._images, upload.lease, upload.path)
        else:
            with upload.path.open("rb") as stream:
                digest = importing.from_rootfs(self._images, upload.lease, stream, "upload")
        return self._keep(tenant, name, digest)

    async def build(self, call: BuildImage, upload: Upload, tell: Tell) -> ImageInfo:
        """When cancelled, the step that runs is ended first."""
        tenancy.stored_name(call.tenant, call.name)
        spec = self._host.specs.get(TEMPLATE)
        if spec is None:
            raise DriverFault("graph", "build", f"there is no template {TEMPLATE}")
        policies = self._host.policies
        limits = merge(policies.limits.defaults, policies.templates[TEMPLATE].limits)
        runner = StepRunner(
            self._host.driver, self._graph, self._host.rootfs, spec, limits,
            asyncio.get_running_loop(),
        )  # fmt: skip
        work = asyncio.ensure_future(asyncio.to_thread(self._build, call, upload, runner, tell))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            runner.cancel()
            await asyncio.gather(work, return_exceptions=True)
            raise

    def _build(self, call: BuildImage, upload: Upload, runner: StepRunner, tell: Tell) -> ImageInfo:
        graph, lease = self._graph, upload.lease
        with unpacked(graph, upload.path) as context:
            text = call.dockerfile
            if text is None:
                tree = Merged([context], graph.uid_base)
                found = tree.read(PurePosixPath("/Dockerfile"), _DOCKERFILE_MAX)
                text = found.decode(errors="replace")
                if not text:
                    raise InvalidDockerfile("there is no Dockerfile in the context")
            build = Build(
                graph, lease, runner=runner, report=tell,
                resolve=lambda name: tenancy.resolve(self._images, call.tenant, name),
            )  # fmt: skip
            digest = build.build(text, context, call.arguments, call.target)
        return self._keep(call.tenant, call.name, digest)

    @contextmanager
    def upload(self) -> Iterator[Upload]:
        """Room for an archive, which is gone at the end of the block."""
        store = self._graph.store
        path = store.staging("upload")
        try:
            with store.leasing() as lease, BlobWriter(path) as writer:
                yield Upload(writer, lease, path, self._settings.context_max)
        finally:
            path.unlink(missing_ok=True)

    def snapshot_name(self, tenant: str, name: str) -> str:
        """What a tenant's snapshot of this name is called in the store. Raises InvalidImage."""
        return tenancy.stored_name(tenant, name)

    def _keep(self, tenant: str, name: str, digest: str) -> ImageInfo:
        """Name an image, within the tenant's quota; a lease holds it."""
        tenancy.give(self._images, tenant, name, digest, self._quotas(tenant).images)
        return self._info(name, digest, shared=False)

    def _info(self, name: str, digest: str, *, shared: bool) -> ImageInfo:
        details = self._images.details(digest)
        return ImageInfo(
            name=name,
            digest=digest,
            created_at=details.config.created,
            layers=len(details.manifest.layers),
            size=sum(layer.size for layer in details.manifest.layers),
            shared=shared,
        )

    def _allowed(self, name: str) -> registry.RemoteName:
        remote = registry.remote_name(name)
        if remote.registry not in self._settings.registries:
            raise Forbidden(f"registry {remote.registry} is not one that this service speaks to")
        return remote

    # Volumes

    def create_volume(self, tenant: str, request: VolumeRequest) -> VolumeInfo:
        most = self._quotas(tenant).volumes
        return _shown(
            self._host.volumes.create(tenant, request.name, request.size, tenant_max=most)
        )

    def list_volumes(self, tenant: str) -> VolumeList:
        return VolumeList(volumes=[_shown(each) for each in self._host.volumes.list(tenant)])

    def remove_volume(self, tenant: str, name: str) -> None:
        """Raises NotFound, or Conflict while a sandbox has it."""
        self._host.volumes.remove(tenant, name)


def _shown(volume: Volume) -> VolumeInfo:
    at = datetime.fromtimestamp(volume.created, UTC).isoformat(timespec="seconds")
    return VolumeInfo(name=volume.name, size=volume.size, created_at=at.replace("+00:00", "Z"))


def _progress(tell: Tell) -> registry.Progress:
    def report(digest: str, done: int, total: int, /) -> None:
        tell(Progress(type="transfer", blob=digest, done_bytes=done, total_bytes=total))

    return report
