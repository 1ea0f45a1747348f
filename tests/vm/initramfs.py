"""The first user space of the guest: busybox, a few modules and guest/init, as one cpio archive."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.vm.fault import LaneFault
from tests.vm.kernel import Kernel

# What must be there before the root can be mounted; the rest loads on demand from the root.
MODULES = ("virtio_pci", "virtio_console", "virtio_blk", "virtiofs", "overlay")

DIRECTORIES = ("bin", "dev", "lower", "modules", "new", "proc", "sys", "upper")


def build(kernel: Kernel) -> bytes:
    """The archive, uncompressed: inflating under emulation costs more than reading does."""
    archive = bytearray()
    for name in DIRECTORIES:
        archive += _entry(name, 0o040755)
    archive += _entry("bin/busybox", 0o100755, busybox().read_bytes())
    archive += _entry("init", 0o100755, (Path(__file__).parent / "guest/init").read_bytes())
    order = []
    for path in load_order(kernel.modules, MODULES):
        order.append(path.name)
        archive += _entry(f"modules/{path.name}", 0o100644, path.read_bytes())
    archive += _entry("modules/order", 0o100644, "".join(f"{name}\n" for name in order).encode())
    archive += _entry("TRAILER!!!", 0)
    return bytes(archive)


def busybox() -> Path:
    """The static busybox of the host."""
    found = shutil.which("busybox")
    if found is None:
        raise LaneFault("busybox is missing; install busybox-static")
    return Path(found)


def load_order(modules: Path, wanted: tuple[str, ...]) -> Iterator[Path]:
    """Files of the wanted modules, each after everything it depends on."""
    depends = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        depends[path] = needs.split()
    by_name = {Path(path).name.partition(".")[0].replace("-", "_"): path for path in depends}
    done: set[str] = set()

    def visit(path: str) -> Iterator[Path]:
        if path in done:
            return
        done.add(path)
        for need in depends[path]:
            yield from visit(need)
        yield modules / path

    for name in wanted:
        if name not in by_name:
            raise LaneFault(f"the kernel has no module {name}")
        yield from visit(by_name[name])


def _entry(name: str, mode: int, data: bytes = b"") -> bytes:
    encoded = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return _padded(header) + _padded(data)


def _padded(block: bytes) -> bytes:
    return block + b"\0" * (-len(block) % 4)
