"""What the command line builds images with: the drivers of a node, without the node.

Under names of its own (`<instance>-build`), so that it runs beside the node of the instance; one at a
time, and each removes what a killed one before it left.
"""

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sandboxd import policy
from sandboxd.drivers.exec.base import Spec
from sandboxd.drivers.exec.cgroups import find as find_cgroups
from sandboxd.drivers.exec.native import NativeDriver
from sandboxd.drivers.exec.uids import UidSlots
from sandboxd.drivers.graph import host_image
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.overlay import Rootfs
from sandboxd.model import merge
from sandboxd.node.building import TEMPLATE, StepRunner
from sandboxd.node.janitor import sweep
from sandboxd.node.specs import make_spec
from sandboxd.settings import Settings, SettingsError

_SLOTS = 4


@contextmanager
def workshop(
    settings: Settings, graph: Graph, loop: asyncio.AbstractEventLoop
) -> Iterator[StepRunner]:
    """A runner of build steps for the time of the block. Waits for another command's build.

    Raises SettingsError, DriverFault or NativeFault where the host cannot do its duty.
    """
    with ExitStack() as made:
        _lock(settings.run_path / "build.lock", made)
        policies = policy.load(settings.policy_path)
        if TEMPLATE not in policies.templates:
            raise SettingsError(f"templates: there is no {TEMPLATE}.toml, which builds run under")
        cgroups = find_cgroups(f"{settings.instance[:26]}-build")
        made.callback(cgroups.close)
        sweep(cgroups)
        stage = settings.run_path / "build-stage"
        stage.mkdir(mode=0o700, exist_ok=True)
        uids = UidSlots(settings.node.uid_base, _SLOTS)
        made.callback(uids.close)
        driver = NativeDriver(cgroups, uids, stage)
        made.callback(driver.close)
        template = policies.templates[TEMPLATE]
        images = settings.run_path / "build-image"
        host_image.clear(images)
        image = host_image.build(images, {})
        spec: Spec = make_spec(settings, policies, template, image)
        limits = merge(policies.limits.defaults, template.limits)
        rootfs = Rootfs(graph, settings.graph.uid_base)
        yield StepRunner(driver, graph, rootfs, spec, limits, loop)


def _lock(path: Path, made: ExitStack) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    made.callback(os.close, fd)
    fcntl.flock(fd, fcntl.LOCK_EX)
