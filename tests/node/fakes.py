"""A driver without a host: builds are tokens, under the test's control."""

import threading
import time
from pathlib import Path

from sandboxd.drivers.exec.base import Built, Spec
from sandboxd.drivers.graph.host_image import Image
from sandboxd.drivers.network.none import Empty
from sandboxd.errors import DriverFault
from sandboxd.native import Native


def spec(template: str = "t") -> Spec:
    return Spec(
        template=template,
        image=Image(name="host", lower=Path("/nowhere"), binds=()),
        seccomp=b"",
        apparmor="",
        cpus=1.0,
        memory=1 << 20,
        pids=1,
        disk=1 << 20,
    )


class FakeDriver:
    """Thread-safe, as a driver must be. `gate` closed holds builds; `fail` makes them fail."""

    layers = frozenset({"fake"})

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.gate = threading.Event()
        self.gate.set()
        self.fail = 0
        self.made = 0
        self.at_once = self.most_at_once = 0
        self.alive: dict[str, Built] = {}
        self.destroyed: list[str] = []
        self.stuck: set[str] = set()
        """Names that refuse to be destroyed."""
        self.ended: set[str] = set()
        """Names of those that the host has taken."""

    def build(self, spec: Spec) -> Built:
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            assert self.gate.wait(20)
            with self._lock:
                if self.fail:
                    self.fail -= 1
                    raise DriverFault("fake", "build", "as told")
                self.made += 1
                built = Built(
                    name=f"{spec.template}-{self.made}",
                    spec=spec,
                    native=Native(0, -1, -1, -1, -1, frozenset()),
                    group=None,  # type: ignore[arg-type]
                    uid=self.made,
                    slot=Empty(-1, b""),
                    layers=self.layers,
                    built_at=time.monotonic(),
                    disk=spec.disk,
                )
                self.alive[built.name] = built
                return built
        finally:
            with self._lock:
                self.at_once -= 1

    def lives(self, built: Built) -> bool:
        return built.name not in self.ended

    def destroy(self, built: Built) -> None:
        with self._lock:
            if built.name in self.stuck:
                raise DriverFault("fake", "destroy", "as told")
            del self.alive[built.name]
            self.destroyed.append(built.name)
