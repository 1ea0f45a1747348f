"""The drivers of this machine and what they serve, made once at the start of a node."""

import resource
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec

from sandboxd import policy
from sandboxd.drivers.exec import inside
from sandboxd.drivers.exec.base import Spec, WarmUp
from sandboxd.drivers.exec.cgroups import Cgroups
from sandboxd.drivers.exec.cgroups import find as find_cgroups
from sandboxd.drivers.exec.native import NativeDriver
from sandboxd.drivers.exec.uids import UidSlots
from sandboxd.drivers.graph import host_image
from sandboxd.drivers.graph.copies import Copies
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.image import Image
from sandboxd.drivers.graph.overlay import Rootfs
from sandboxd.drivers.graph.volumes import Volumes
from sandboxd.errors import RequestError
from sandboxd.model import Language, Template, Warm, merge
from sandboxd.model import argv as fill
from sandboxd.node.adopting import Adopted, Survivors
from sandboxd.node.janitor import InstanceLock, sweep
from sandboxd.node.job_environment import base_env, order
from sandboxd.node.mounts import Mounts
from sandboxd.node.network import Networks
from sandboxd.node.sessions.keeping import fetch
from sandboxd.node.specs import make_spec
from sandboxd.node.warmth import default_limits, shelf_name
from sandboxd.settings import Settings, SettingsError


class Kept(msgspec.Struct, frozen=True):
    """What the pool keeps of one spec: `least` always, up to `most`, if that is more, while they are
    asked for."""

    spec: Spec
    least: int
    most: int


class Host:
    def __init__(self, settings: Settings) -> None:
        """Raises SettingsError, DriverFault or NativeFault where the host cannot do its duty."""
        _raise_open_files()
        with ExitStack() as made:
            self._make(settings, made)
            self._made = made.pop_all()

    def _make(self, settings: Settings, made: ExitStack) -> None:
        settings.run_path.mkdir(parents=True, exist_ok=True)
        lock = InstanceLock(settings.run_path / "node.lock")
        made.callback(lock.release)
        self.policies = policy.load(settings.policy_path, settings.network)
        self.cgroups: Cgroups = find_cgroups(settings.instance, settings.judge.cores)
        made.callback(self.cgroups.close)
        survivors = Survivors(fetch(settings.keeper_socket))
        sweep(self.cgroups, survivors.groups)
        stage = settings.run_path / "stage"
        stage.mkdir(mode=0o700, exist_ok=True)
        uids = UidSlots(settings.node.uid_base, settings.node.uid_slots, held=survivors.locks)
        made.callback(uids.close)
        self.driver = NativeDriver(self.cgroups, uids, stage)
        made.callback(self.driver.close)
        self.graph = made.enter_context(Graph(settings))
        self.rootfs = self._rootfs = Rootfs(self.graph, settings.graph.uid_base)
        self.copies = Copies(self.graph, self.rootfs, lambda tenant: settings.quotas(tenant).images)
        self.volumes = Volumes(self.graph.store, settings.graph.uid_base, self._owner_map)
        self.mounts = Mounts(self.graph, self.rootfs, self.volumes, self._owner_map)
        images = settings.state_path / "images"
        if not survivors.groups:  # else they stand on one of them
            host_image.clear(images)
        host = host_image.build(images, settings.host_image.binds, owner=settings.graph.uid_base)
        self.images = {"host": host}
        self.rootfs.host = self.images["host"]
        self.specs = {
            name: make_spec(settings, self.policies, template, self._image(template))
            for name, template in self.policies.templates.items()
        }
        self._network_target = settings.network.pool_size
        self.networks: Networks | None = None
        if settings.network.enabled:
            self.networks = Networks(settings, self.policies.egress, survivors.slots)
            made.callback(self.networks.close)
        self._adopted = survivors.adopt(
            self.driver, self.specs, self.rootfs.image, self.mounts, self.networks
        )
        sweep(self.cgroups, {adopted.kept.name for adopted in self._adopted})
        if self.networks is not None:
            self.networks.driver.give_up()
        self.layers = self._prove(settings.isolation.require)
        self._inside = inside.install(settings.run_path / "inside")

    def _image(self, template: Template) -> Image:
        if template.image not in self.images:
            try:
                self.images[template.image] = self._rootfs.image(template.image)
            except RequestError as error:
                raise SettingsError(f"templates/{template.name}.toml: {error.detail}") from error
        return self.images[template.image]

    def _owner_map(self, uid: int) -> int:
        return self.driver.owner_map(self.graph.uid_base, uid)

    @property
    def image_changes(self) -> Path:
        """A file that is written whenever a name of the image store changes its meaning."""
        return self._rootfs.changes

    def refresh(self) -> list[Kept]:
        """What `shelves` says now of those templates whose image's name has another meaning.

        A name that is gone keeps its last one. Blocks as long as unpacking does.
        """
        changed = set()
        for name, old in list(self.images.items()):
            if old.hold is None or self._rootfs.digest(name) in ("", old.digest):
                continue
            self.images[name] = self._rootfs.image(name)
            old.hold.drop()
            changed.add(name)
        for template in self.policies.templates.values():
            if template.image in changed:
                spec = self.specs[template.name]
                self.specs[template.name] = msgspec.structs.replace(
                    spec, image=self.images[template.image]
                )
        return [shelf for shelf in self.shelves() if shelf.spec.image.name in changed]

    def take_adopted(self) -> list[Adopted]:
        """Sandboxes of the node before this one that live; whoever takes them owns them."""
        adopted, self._adopted = self._adopted, []
        return adopted

    @property
    def locks(self) -> list[int]:
        """Descriptors by which the uid ranges are this node's."""
        return self.driver.locks

    def open_files(self, template: str) -> int:
        """Of a process of this template, unless it is asked for otherwise."""
        limits = merge(self.policies.limits.defaults, self.policies.templates[template].limits)
        return limits.open_files

    def _prove(self, required: list[str]) -> frozenset[str]:
        """Build one sandbox of each template: what holds is what it reports, not what we hope."""
        layers: frozenset[str] | None = None
        for spec in self.specs.values():
            built = self.driver.build(spec)
            self.driver.destroy(built)
            missing = [name for name in required if name not in built.layers]
            if missing:
                raise SettingsError(
                    f"isolation.require: template {spec.template} lacks {', '.join(missing)}"
                )
            layers = built.layers if layers is None else layers & built.layers
        return layers or frozenset()

    def languages(self) -> list[Language]:
        """Those whose requirements the image of their template meets."""
        return [
            language
            for language in self.policies.languages.values()
            if language.available(self.specs[language.template].image.has)
        ]

    def shelves(self) -> list[Kept]:
        """What the pool shall keep, and how much of each: templates, and warm interpreters."""
        kept = [
            Kept(self.specs[template.name], template.pool_size, template.pool_max)
            for template in self.policies.templates.values()
        ]
        if self.networks is not None:
            target = self._network_target
            kept += [Kept(self.networks.spec(spec), target, 0) for spec in self.specs.values()]
        for language in self.languages():
            if language.warm is not None:
                spec = self._warm_spec(language, language.warm)
                kept.append(Kept(spec, language.warm.pool_size, language.warm.pool_max))
        return kept

    def _warm_spec(self, language: Language, warm: Warm) -> Spec:
        limits = default_limits(self.policies, language)
        env = {**base_env(self.specs[language.template].image), **language.env, **warm.env}
        if warm.modules:
            env[inside.MODULES] = " ".join(warm.modules)
        command = fill(warm.command, source=language.source, memory=limits.memory)
        begin = partial(order, command, files=(), limits=limits, cwd=warm.directory, warm=True)
        return msgspec.structs.replace(
            self.specs[language.template],
            template=shelf_name(language),
            memory=limits.memory,
            pids=limits.pids,
            disk=limits.disk,
            warm=WarmUp(
                order=begin(env=env),
                zygote=begin(env={**env, inside.ZYGOTE: "1"}),
                copies=warm.copies,
                binds=inside.named(self._inside, warm),
            ),
        )

    def close(self) -> None:
        self._made.close()


def _raise_open_files() -> None:
    """A warm sandbox is a dozen descriptors; the default soft limit would end us at eighty."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
