"""Looks at this host layer by layer: what it gives, what is missing, what that means.

What a sandbox itself can report is asked of a real one, built for the purpose and destroyed again;
the rest is read from the kernel.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from sandboxd.drivers.network import wireguard
from sandboxd.drivers.network.probe import holding
from sandboxd.errors import DriverFault, SandboxdError
from sandboxd.model import Job, Language, Result, RunRequest, merge
from sandboxd.node.execution import Execution
from sandboxd.node.host import Host
from sandboxd.node.pool import Pool
from sandboxd.settings import Settings

_MEANS = {
    "userns": "the job's uid is nobody on the host, and unique",
    "pidns": "the job sees and signals its own processes only",
    "mountns": "its mounts are its own",
    "netns": "no network but its own loopback",
    "ipcns": "shared memory and queues are its own",
    "utsns": "it cannot see or set the host's name",
    "cgroupns": "it cannot see where in the host's groups it is",
    "overlay": "it writes to a capped memory file system over a read-only image",
    "masked_proc": "/proc tells nothing of the host's devices and keys",
    "capabilities": "all five sets are empty and locked",
    "no_new_privs": "setuid programs give nothing",
    "seccomp": "system calls by allow-list",
    "landlock": "a second, independent lock on what may be written, and on signals",
    "apparmor": "a third lock, by the kernel's security module",
    "cgroup_memory": "memory is limited, for the whole group",
    "cgroup_pids": "processes are limited",
    "cgroup_cpu": "cores are limited",
    "cgroup_kill": "a whole group dies at once, also a fork bomb",
}


class Row(Struct, frozen=True):
    name: str
    state: str
    """`on`, `off`, `ok`, `warn` or `fail`."""
    text: str

    @property
    def bad(self) -> bool:
        return self.state == "fail"


def examine(settings: Settings) -> Iterator[Row]:
    """One row per layer and per fact of the host; `fail` where a required layer is missing."""
    yield Row("kernel", "ok", f"{os.uname().release} {os.uname().machine}")
    if os.geteuid() != 0:
        yield Row("root", "fail", "namespaces and control groups need root: run the doctor as root")
        return
    try:
        with private_host(msgspec.structs.replace(settings, isolation=_ask_for_nothing())) as host:
            yield Row("cgroups", "ok", f"{host.cgroups.kind} hierarchy")
            yield from _layers(host.layers, settings.isolation.require)
            yield _stores(host)
            offered = sorted(language.name for language in host.languages())
            yield Row("languages", "ok" if offered else "warn", ", ".join(offered) or "none")
    except SandboxdError as error:
        yield Row("sandbox", "fail", f"none can be built: {error}")
    yield network(settings)
    yield from _host_facts(settings)


def _stores(host: Host) -> Row:
    """Whether images can be built, and volumes be had."""
    lacking = []
    if not host.rootfs.maps_owners:
        lacking.append("builds: the store's file system cannot map owners")
    if not Path("/dev/loop-control").exists():
        lacking.append("volumes: no loop devices")
    if shutil.which("mkfs.ext4") is None:
        lacking.append("new volumes: no mkfs.ext4")
    text = "; ".join(lacking) or "images can be built, volumes be had"
    return Row("images", "warn" if lacking else "ok", text)


def network(settings: Settings) -> Row:
    """Whether what the settings say of networks can be held to here."""
    if not settings.network.enabled:
        return Row(
            "network", "ok", "not enabled: sandboxes have none, and the host's is not touched"
        )
    forwarding = _read("/proc/sys/net/ipv4/ip_forward") == "1"
    try:
        if settings.network.overlay and settings.network.overlay_encryption == "wireguard":
            wireguard.require()
        name = holding(settings.network.firewall)
    except DriverFault as error:
        return Row("network", "fail", str(error))
    switched = "forwards already" if forwarding else "will be switched to forwarding"
    return Row("network", "ok", f"{name} stops packets here; this network namespace {switched}")


def _layers(held: frozenset[str], required: list[str]) -> Iterator[Row]:
    for name, meaning in _MEANS.items():
        if name in held:
            yield Row(name, "on", meaning)
        elif name in required:
            yield Row(name, "fail", f"required, and this host lacks it; without it not: {meaning}")
        else:
            yield Row(name, "off", f"this host lacks it; without it not: {meaning}")
    for name in required:
        if name not in _MEANS:
            yield Row(name, "fail", "isolation.require names a layer that does not exist")


def _host_facts(settings: Settings) -> Iterator[Row]:
    server = settings.redis.server or shutil.which("valkey-server") or shutil.which("redis-server")
    if settings.redis.url:
        yield Row("queue", "ok", "an outside Redis, by redis.url")
    elif server:
        yield Row("queue", "ok", f"embedded {Path(server).name}")
    else:
        yield Row("queue", "fail", "no redis-server or valkey-server, and redis.url is not set")
    swaps = Path("/proc/swaps").read_text().splitlines()[1:]
    yield Row(
        "swap", "warn" if swaps else "ok", "in use: job pages may reach a disk" if swaps else "none"
    )
    smt = _read("/sys/devices/system/cpu/smt/active")
    yield Row(
        "smt",
        "warn" if smt == "1" else "ok",
        "on: two jobs may share a core's caches at once" if smt == "1" else "off",
    )
    ksm = _read("/sys/kernel/mm/ksm/run")
    yield Row(
        "ksm",
        "warn" if ksm == "1" else "ok",
        "on: equal pages of two jobs are merged, which timing shows" if ksm == "1" else "off",
    )
    zeroing = "init_on_alloc=1" in _read("/proc/cmdline").split()
    yield Row(
        "init_on_alloc", "ok" if zeroing else "warn",
        "pages are cleared when handed out" if zeroing
        else "not on the kernel's command line: it may be the built-in default, or off",
    )  # fmt: skip
    weak = [
        path.name
        for path in sorted(Path("/sys/devices/system/cpu/vulnerabilities").glob("*"))
        if path.read_text().startswith("Vulnerable")
    ]
    yield Row(
        "mitigations", "warn" if weak else "ok", f"open: {', '.join(weak)}" if weak else "all on"
    )
    bpf = _read("/proc/sys/kernel/unprivileged_bpf_disabled")
    if bpf == "0":
        yield Row(
            "unprivileged bpf", "warn", "allowed on the host; in sandboxes seccomp refuses it"
        )


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _ask_for_nothing() -> object:
    return msgspec.convert({"require": []}, type(Settings().isolation))


class private_host:  # noqa: N801  (reads as a function in `with`)
    """A Host of an instance of its own, beside any service that runs."""

    def __init__(self, settings: Settings) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="sandboxd-doctor-")
        self._settings = msgspec.structs.replace(
            settings,
            instance=f"doctor-{os.getpid()}",
            network=type(settings.network)(),  # its addresses are the running service's
            run_dir=self._directory.name,
            state_dir=self._directory.name,
            # Templates may name images of the real store, which several processes may use at once.
            graph=msgspec.structs.replace(
                settings.graph,
                path=str(settings.graph_path) if settings.graph_path.is_dir() else "",
            ),
        )

    def __enter__(self) -> Host:
        try:
            self._host = Host(self._settings)
        except BaseException:
            self._directory.cleanup()
            raise
        return self._host

    def __exit__(self, *_: object) -> None:
        self._host.close()
        self._directory.cleanup()


class Tried(Struct, frozen=True):
    language: str
    result: Result
    right: bool


async def self_tests(host: Host) -> list[Tried]:
    """Run the self-test program of every language that the host offers, in real sandboxes."""
    pool = Pool(host.driver, concurrency=2, max_age=60.0)
    for kept in host.shelves():
        pool.stock(kept.spec, 1)
    try:
        return [await _self_test(host, pool, language) for language in host.languages()]
    finally:
        await pool.close()


async def _self_test(host: Host, pool: Pool, language: Language) -> Tried:
    test, limits = language.self_test, host.policies.limits
    recipe = language.compile
    job = Job(
        id=f"doctor_{language.name}",
        tenant="doctor",
        request=RunRequest(language=language.name, source=test.source, stdin=test.stdin),
        template=language.template,
        limits=merge(limits.defaults, language.limits),
        compile_limits=merge(limits.compile_defaults, recipe.limits) if recipe else None,
        created_at="",
    )
    execution = Execution(job, host.policies, pool, node="doctor", collect_max=0)
    result = await execution.run(await pool.claim(*execution.shelves))
    return Tried(language.name, result, result.status == "ok" and result.stdout == test.stdout)


def try_languages(settings: Settings) -> list[Tried]:
    """`self_tests` from outside an event loop. Raises SandboxdError if there can be no sandbox."""
    with private_host(settings) as host:
        return asyncio.run(self_tests(host))
