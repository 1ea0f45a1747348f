"""One boot of the virtual machine: put it together, run one command in it, hand back its exit code.

Nothing of the guest outlives `run`, and nothing of the host is writable to it: its root is the
host's /usr, /etc, /opt and the project, read-only, under an overlay whose upper layer is the
guest's memory. There is no network device.
"""

import json
import os
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.vm import initramfs, kernel, share
from tests.vm.fault import LaneFault, LaneTimeout

PROJECT = Path(__file__).resolve().parents[2]
GUEST = Path(__file__).parent / "guest"
# Not SANDBOXD_*: those names are settings, and an unknown one is refused.
MARKER = "VM_LANE"
FILES = f"{share.GUEST_FILES}/files"
PORTS = "/dev/virtio-ports"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KERNEL_ARGUMENTS = (
    "console=ttyS0 quiet panic=-1 random.trust_cpu=on no_timer_check tsc=reliable "
    "cgroup_no_v1=all lsm=landlock,lockdown,yama,apparmor,bpf apparmor=1"
)
COVERED = ("/tmp/", "/run/", "/root/", "/var/")
"""Where the guest mounts file systems of its own."""
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mkfs.ext4": "e2fsprogs",
    "setpriv": "util-linux",
    "busybox": "busybox-static",
}
POWER_OFF = 20.0
"""Seconds that the machine may take to go down after the command has ended."""

Sink = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Machine:
    """Size and patience: memory and disk in MiB, timeout in seconds for the whole boot."""

    memory: int = 2048
    disk: int = 4096
    cpus: int = 2
    timeout: float = 540.0


@dataclass(frozen=True, slots=True)
class Command:
    """What the guest runs, with standard input empty.

    `env` is added to a minimal environment; `files` appear in the guest as FILES/NAME.
    """

    argv: Sequence[str]
    cwd: Path = PROJECT
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


def run(command: Command, sinks: Mapping[str, Sink], machine: Machine | None = None) -> int:
    """Boot, run the command, power off.

    Every sink is a channel: `out` and `err` carry the command's output, any other name appears in
    the guest as /dev/virtio-ports/NAME. A sink is called with each block as it arrives.

    Returns:
        The exit code; 128 + N when signal N ended the command, 126 or 127 when it did not start.

    Raises:
        LaneTimeout: the time was up; the machine is gone.
        LaneFault: the machine could not start, or stopped before the command ended.
    """
    machine = machine or Machine()
    _check_host()
    cache = kernel.cache_directory()
    code = bytearray()
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sandboxd-vm-")))
        chosen = kernel.obtain(cache)
        sources = _sources()
        _write_guest_files(work, command, sources)
        (work / "initramfs").write_bytes(initramfs.build(chosen))
        _make_disk(work / "disk", machine.disk)
        _serve_files(stack, work, chosen, sources)
        channels = {**sinks, "code": code.extend}
        ends = {name: socket.socketpair() for name in channels}
        for ours, theirs in ends.values():
            stack.enter_context(ours)
            stack.enter_context(theirs)
        fds = {name: theirs.fileno() for name, (_, theirs) in ends.items()}
        argv = _arguments(machine, chosen, work, fds)
        emulator = _start(stack, argv, list(fds.values()), work / "emulator.log")
        for _, theirs in ends.values():
            theirs.close()
        streams = {ours: channels[name] for name, (ours, _) in ends.items()}
        _pump(streams, code, emulator, machine.timeout)
        if not code:
            raise LaneFault(f"the machine stopped by itself\n{_logs(work)}")
        return int(code)


def _check_host() -> None:
    if os.geteuid() != 0:
        raise LaneFault("the lane needs root: it shares the host's files from a mount namespace")
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise LaneFault(f"{tool} is missing; install {package}")


def _sources() -> list[str]:
    """Directories of the host that the guest sees at their own paths."""
    sources = [source for source in share.SHARED if Path(source).is_dir()]
    for needed in (PROJECT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()):
        if not any(needed.is_relative_to(source) for source in sources):
            sources.append(str(needed))
    return sources


def _write_guest_files(work: Path, command: Command, sources: Sequence[str]) -> None:
    guest = work / "guest"
    shutil.copytree(GUEST, guest, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(initramfs.busybox(), guest / "busybox")
    (guest / "modprobe").chmod(0o755)
    (guest / "lib/modules").mkdir(parents=True)
    (guest / "proc").mkdir()
    (guest / "files").mkdir()
    for name, content in command.files.items():
        (guest / "files" / name).write_bytes(content)
    environment = {
        "PATH": f"{Path(sys.prefix) / 'bin'}:{PATH}",
        "HOME": "/root",
        "USER": "root",
        "LANG": "C.UTF-8",
        MARKER: "1",
        **command.env,
    }
    covered = [path for path in sources if path.startswith(COVERED)]
    (guest / "covered").write_text("".join(f"{path}\n" for path in covered))
    order = {
        "argv": list(command.argv),
        "cwd": str(command.cwd),
        "env": environment,
        "remember": share.descriptors() // 2,
    }
    (guest / "command.json").write_text(json.dumps(order))


def _make_disk(path: Path, mebibytes: int) -> None:
    """The guest's /var: a real block device, for I/O limits and project quotas."""
    with path.open("wb") as disk:
        disk.truncate(mebibytes << 20)
    argv = ["mkfs.ext4", "-q", "-O", "quota,project", "-E", "lazy_itable_init=1,quotatype=prjquota"]
    subprocess.run([*argv, str(path)], check=True)


def _serve_files(
    stack: ExitStack, work: Path, chosen: kernel.Kernel, sources: Sequence[str]
) -> None:
    guest = f"{work / 'guest'}:{share.GUEST_FILES}"
    modules = f"{chosen.modules.parent}:{share.GUEST_FILES}/lib/modules"
    sources = [*sources, guest, modules]
    (work / "tree").mkdir()
    # Closed here once the server has it, so that a server that fails is refused, not waited for.
    with socket.socket(socket.AF_UNIX) as listener, (work / "files.log").open("wb") as log:
        listener.bind(str(work / "files.sock"))
        listener.listen(1)
        fd = listener.fileno()
        argv = [sys.executable, "-m", "tests.vm.share", str(work / "tree"), str(fd), *sources]
        server = subprocess.Popen(argv, cwd=PROJECT, pass_fds=[fd], stdout=log, stderr=log)
    stack.callback(_end, server)


def _arguments(
    machine: Machine, chosen: kernel.Kernel, work: Path, channels: Mapping[str, int]
) -> list[str]:
    memory = f"memory-backend-memfd,id=ram,size={machine.memory}M,share=on"
    argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"]
    argv += ["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(machine.cpus)]
    argv += ["-M", "pc,memory-backend=ram", "-m", f"{machine.memory}M", "-object", memory]
    argv += ["-nic", "none", "-no-reboot", "-serial", f"file:{work / 'console'}"]
    argv += ["-kernel", str(chosen.image), "-initrd", str(work / "initramfs")]
    argv += ["-append", KERNEL_ARGUMENTS]
    argv += ["-drive", f"file={work / 'disk'},format=raw,if=virtio,cache=unsafe"]
    argv += ["-chardev", f"socket,id=files,path={work / 'files.sock'}"]
    argv += ["-device", "vhost-user-fs-pci,chardev=files,tag=root,queue-size=1024"]
    argv += ["-device", "virtio-serial-pci"]
    for name, fd in channels.items():
        argv += ["-chardev", f"socket,id={name},fd={fd}"]
        argv += ["-device", f"virtserialport,chardev={name},name={name}"]
    return argv


def _start(
    stack: ExitStack, argv: list[str], fds: list[int], log: Path
) -> "subprocess.Popen[bytes]":
    # A killed caller must not leave a machine behind.
    argv = ["setpriv", "--pdeathsig", "KILL", "--", *argv]
    with log.open("wb") as stream:
        emulator = subprocess.Popen(
            argv, pass_fds=fds, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
        )
    stack.callback(_end, emulator)
    return emulator


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def _pump(
    sources: Mapping[socket.socket, Sink],
    code: bytearray,
    emulator: "subprocess.Popen[bytes]",
    timeout: float,
) -> None:
    """Hand every block to its sink until the machine is down or the time is up."""
    deadline = time.monotonic() + timeout
    ending = False
    with selectors.DefaultSelector() as selector:
        for source, sink in sources.items():
            selector.register(source, selectors.EVENT_READ, sink)
        while selector.get_map():
            if code and not ending:
                ending = True
                deadline = time.monotonic() + POWER_OFF
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                if ending:
                    return
                raise LaneTimeout(f"no end after {timeout:g} s; the machine was killed")
            for key, _ in ready:
                _forward(selector, key)
    emulator.wait(POWER_OFF)


def _forward(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    assert isinstance(key.fileobj, socket.socket)
    block = key.fileobj.recv(65536)
    if block:
        key.data(block)
    else:
        selector.unregister(key.fileobj)


def _logs(work: Path) -> str:
    """What the emulator, the file server and the guest's console said last."""
    texts = [work / name for name in ("emulator.log", "files.log", "console")]
    return "".join(path.read_text(errors="replace")[-4000:] for path in texts if path.exists())
