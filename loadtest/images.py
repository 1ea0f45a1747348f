"""What images cost: roots of many layers, snapshots, pulls, and pages that sandboxes share.

Each figure beside its peer in the same run, the two in turns: runc on an overlay of the same layers,
skopeo copy and umoci unpack from the same registry. Needs root; all is below a directory of its own.
"""

import ctypes
import json
import os
import secrets
import shutil
import statistics
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path

import msgspec

from sandboxd.drivers.exec.base import Built, Spec
from sandboxd.drivers.exec.cgroups import find
from sandboxd.drivers.exec.native import NativeDriver
from sandboxd.drivers.exec.uids import UidSlots
from sandboxd.drivers.graph import registry
from sandboxd.drivers.graph.collection import collect
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.images import full_name
from sandboxd.drivers.graph.importing import layer_of
from sandboxd.drivers.graph.overlay import Rootfs
from sandboxd.drivers.graph.snapshot import snapshot
from sandboxd.model.image import Config, RootFs
from sandboxd.native import ExecOrder, Exited, compile_seccomp, receive, send_exec
from sandboxd.settings import Settings
from tests.images.debian_registry import registry as debian_registry

MIB = 1 << 20
_LAYERS = (1, 20, 100)
_BUSYBOX = Path("/bin/busybox")


class Bench:
    """The store, the driver and what is made with them, for one run of the bench."""

    def __init__(self, directory: Path, made: ExitStack) -> None:
        self.directory = directory
        self.settings = msgspec.structs.replace(Settings(), state_dir=str(directory / "state"))
        self.graph = made.enter_context(Graph(self.settings))
        self.rootfs = Rootfs(self.graph, self.settings.graph.uid_base)
        (directory / "stage").mkdir()
        cgroups = find(f"bench-{secrets.token_hex(4)}")
        made.callback(cgroups.close)
        self.driver = NativeDriver(cgroups, UidSlots(0xE000_0000, 1024), directory / "stage")
        made.callback(self.driver.close)
        self._seccomp = compile_seccomp(
            (self.settings.policy_path / "seccomp" / "default.json").read_bytes()
        )

    def image(self, name: str, layers: list[bytes]) -> str:
        graph = self.graph
        with graph.store.leasing() as lease:
            digests = []
            for data in layers:
                digests.append(graph.store.add(lease, data))
            unpacked = graph.layers.ensure(digests)
            config = Config(
                architecture="amd64", os="linux", rootfs=RootFs([x.diff_id for x in unpacked])
            )
            blobs = [layer_of(graph.store, each) for each in digests]
            digest = graph.images.assemble(lease, config, blobs)
            graph.store.tag(full_name(name), digest)
        return digest

    def spec(self, name: str) -> Spec:
        return Spec(
            template="bench", image=self.rootfs.image(name), seccomp=self._seccomp, apparmor="",
            cpus=1.0, memory=256 * MIB, pids=32, disk=64 * MIB,
        )  # fmt: skip

    @contextmanager
    def sandbox(self, spec: Spec) -> Iterator[Built]:
        built = self.driver.build(spec)
        try:
            yield built
        finally:
            self.driver.destroy(built)


def main(directory: Path, *, rounds: int, sandboxes: int, megabytes: int) -> list[str]:
    """Run everything; the table's lines."""
    with ExitStack() as made:
        bench = Bench(directory, made)
        return [
            "| what | sandboxd | peer | peer is |",
            "|---|---|---|---|",
            *_roots(bench, rounds),
            *_snapshots(bench, rounds),
            *_pulls(bench, megabytes),
            *_shared(bench, sandboxes),
        ]


def execute(built: Built, argv: list[str]) -> None:
    """One program from its order to its end."""
    null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
    order = ExecOrder(argv=argv, env={}, open_files=64, stack=8 * MIB, file_size=1 << 30, cwd="/")
    try:
        send_exec(built.native.exec, order, None, null, null)
    finally:
        os.close(null)
    while not isinstance(message := receive(built.native.control), Exited):
        if message is None:
            os.set_blocking(built.native.control, True)
    os.set_blocking(built.native.control, False)


def _roots(bench: Bench, rounds: int) -> Iterator[str]:
    base = _tar({"bin/busybox": _BUSYBOX.read_bytes()})
    for count in _LAYERS:
        layers = [base, *[_tar({f"d{number}/f": b"x" * 100}) for number in range(1, count)]]
        bench.image(f"roots{count}", layers)
        spec = bench.spec(f"roots{count}")

        def ours(spec: Spec = spec) -> None:
            with bench.sandbox(spec) as built:
                execute(built, ["/bin/busybox", "true"])

        paths = [str(spec.image.lower), *map(str, spec.image.below)]
        runc = Runc(bench.directory / f"runc{count}", paths)
        mine, peer = _in_turns(rounds, ours, runc.once)
        yield (
            f"| a program in a new root of {count} layers, p50 | {mine * 1e3:.1f} ms "
            f"| {peer * 1e3:.1f} ms | overlay mount, runc run, unmount |"
        )


class Runc:
    """runc on an overlay that is mounted for it, in a mount namespace of its own."""

    def __init__(self, directory: Path, layers: list[str]) -> None:
        self._directory, self._layers = directory, layers
        for name in ("up", "wrk", "rootfs", "l"):
            (directory / name).mkdir(parents=True)
        for number, layer in enumerate(layers):
            (directory / "l" / str(number)).symlink_to(layer)
        subprocess.run(["runc", "spec"], cwd=directory, check=True)
        config = json.loads((directory / "config.json").read_text())
        config["process"] |= {"terminal": False, "args": ["/bin/busybox", "true"]}
        config["root"] = {"path": "rootfs", "readonly": False}
        (directory / "config.json").write_text(json.dumps(config))

    def once(self) -> None:
        child = os.fork()
        if child == 0:
            try:
                self._run()
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        if status != 0:
            raise RuntimeError(f"runc ended with {status}")

    def _run(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x20000) or libc.mount(None, b"/", None, ctypes.c_ulong(0x44000), None):
            raise OSError(ctypes.get_errno(), "unshare")
        os.chdir(self._directory)
        lower = ":".join(f"l/{number}" for number in range(len(self._layers)))
        options = f"lowerdir={lower},upperdir=up,workdir=wrk".encode()
        if libc.mount(b"overlay", b"rootfs", b"overlay", ctypes.c_ulong(0), options):
            raise OSError(ctypes.get_errno(), "mount")
        name = f"bench-{os.getpid()}"
        subprocess.run(
            ["runc", "--root", f"{self._directory}/run", "run", name],
            check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        libc.umount2(b"rootfs", 0)


def _snapshots(bench: Bench, rounds: int) -> Iterator[str]:
    base = bench.image("snaps", [_tar({"bin/busybox": _BUSYBOX.read_bytes()})])
    spec = bench.spec("snaps")
    write = ["dd", "if=/dev/urandom", "of=/work/f", "bs=1M", "count=10"]
    for what, words in (("an untouched sandbox", ["true"]), ("10 MB in one file", write)):
        argv = ["/bin/busybox", *words]
        times = []
        for _ in range(rounds):
            with bench.sandbox(spec) as built:
                execute(built, argv)
                begin = time.perf_counter()
                built.group.freeze(True)
                with bench.graph.store.leasing() as lease:
                    scratch, uid = built.native.scratch, built.uid
                    snapshot(bench.graph.images, lease, base, scratch, uid, "bench")
                built.group.freeze(False)
                times.append(time.perf_counter() - begin)
            bench.graph.store.settle()
        p50, best = statistics.median(times), min(times)
        yield f"| snapshot of {what}, p50 (best) | {p50 * 1e3:.1f} ms ({best * 1e3:.1f}) | | |"


def _pulls(bench: Bench, megabytes: int) -> Iterator[str]:
    layers = [
        _tar({f"{layer}/{number}": os.urandom(MIB) for number in range(megabytes // 4)})
        for layer in range(4)
    ]
    directory = bench.directory / "registry"
    directory.mkdir()
    with debian_registry(directory) as address:
        name = registry.remote_name(f"{address}/big:1")
        digest = bench.image("big", layers)
        with registry.Client(name, push=True) as client:
            registry.push(client, bench.graph.images, digest, lambda *_: None)
        bench.graph.store.untag("big:latest")

        def ours() -> None:
            with bench.graph.store.leasing() as lease, registry.Client(name) as client:
                registry.pull(client, bench.graph.images, lease, lambda *_: None)

        def theirs() -> None:
            where = bench.directory / "skopeo"
            shutil.rmtree(where, ignore_errors=True)
            where.mkdir()
            copy = ["skopeo", "copy", "-q", "--insecure-policy", "--src-tls-verify=false"]
            source = f"docker://{address}/big:1"
            subprocess.run([*copy, source, f"oci:{where}/layout:1"], check=True)
            unpack = ["umoci", "--log=error", "unpack", "--image", f"{where}/layout:1"]
            subprocess.run([*unpack, f"{where}/bundle"], check=True)

        mine, peer = [], []
        for _ in range(3):
            collect(bench.graph.store)
            mine.append(_timed(ours))
            peer.append(_timed(theirs))
    yield (
        f"| pull and unpack {megabytes} MB, best of 3 | {min(mine):.2f} s | {min(peer):.2f} s "
        "| skopeo copy, umoci unpack |"
    )


def _shared(bench: Bench, sandboxes: int) -> Iterator[str]:
    spec = bench.spec("snaps")
    with ExitStack() as open_ones:
        built = [open_ones.enter_context(bench.sandbox(spec)) for _ in range(sandboxes)]
        null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        order = ExecOrder(
            argv=["/bin/busybox", "sleep", "600"], env={}, open_files=64, stack=8 * MIB,
            file_size=MIB, cwd="/",
        )  # fmt: skip
        for each in built:
            send_exec(each.native.exec, order, None, null, null)
        os.close(null)
        time.sleep(1.0)
        pss = rss = files = 0
        for each in built:
            for pid in (
                Path(f"/proc/{each.native.pid}/task/{each.native.pid}/children").read_text().split()
            ):
                found = _memory(int(pid))
                rss, pss, files = rss + found[0], pss + found[1], files + found[2]
    yield (
        f"| {sandboxes} sandboxes of one image, each a program: RSS, PSS, PSS of files, each "
        f"| {rss / sandboxes / 1024:.0f}, {pss / sandboxes / 1024:.0f}, "
        f"{files / sandboxes / 1024:.1f} KiB | | |"
    )  # fmt: skip


def _memory(pid: int) -> tuple[int, int, int]:
    """RSS, PSS and PSS of files of a process, bytes."""
    fields = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    )
    kib = {name: int(text.split()[0]) for name, text in fields.items()}
    return kib["Rss"] * 1024, kib["Pss"] * 1024, kib["Pss_File"] * 1024


def _in_turns(
    rounds: int, ours: Callable[[], None], theirs: Callable[[], None]
) -> tuple[float, float]:
    """Medians of both, seconds."""
    mine, peer = [], []
    for _ in range(rounds):
        mine.append(_timed(ours))
        peer.append(_timed(theirs))
    return statistics.median(mine), statistics.median(peer)


def _timed(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = BytesIO()
    with tarfile.open(mode="w", fileobj=buffer) as out:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            out.addfile(info, BytesIO(data))
    return buffer.getvalue()
