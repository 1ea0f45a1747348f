"""Names, snapshots, collections and real sandboxes in any order: whoever runs finds its image whole."""

import secrets
import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from sandboxd.drivers.exec.base import Built
from sandboxd.drivers.exec.cgroups import find
from sandboxd.drivers.exec.native import NativeDriver
from sandboxd.drivers.exec.uids import UidSlots
from sandboxd.drivers.graph.collection import collect
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.overlay import Rootfs
from sandboxd.drivers.graph.snapshot import snapshot
from sandboxd.drivers.graph.verify import verify
from sandboxd.errors import Overload, UnknownImage
from sandboxd.settings import Settings
from tests.drivers.graph.archives import Item, archive
from tests.drivers.graph.test_rootfs import BUSYBOX, spec
from tests.drivers.graph.test_store import tagged
from tests.native.box import run

pytestmark = [pytest.mark.root, pytest.mark.slow]
names = st.sampled_from("abc")


class LivingMachine(RuleBasedStateMachine):
    living = Bundle("living")

    def __init__(self) -> None:
        super().__init__()
        self._directory = Path(tempfile.mkdtemp(prefix="sandboxd-test-"))
        state = msgspec.structs.replace(Settings(), state_dir=str(self._directory / "state"))
        self._graph = Graph(state)
        self._rootfs = Rootfs(self._graph, state.graph.uid_base)
        (self._directory / "stage").mkdir()
        self._cgroups = find(f"lm-{secrets.token_hex(4)}")
        self._driver = NativeDriver(
            self._cgroups, UidSlots(0xDE00_0000, 6, self._directory / "locks"),
            self._directory / "stage",
        )  # fmt: skip
        self._content: dict[str, str] = {}
        """What /f says, by name."""
        self._running: list[Built] = []

    @rule(name=names, number=st.integers(0, 3))
    def make(self, name: str, number: int) -> None:
        layers = [archive([BUSYBOX]), archive([Item("f", b"%d" % number)])]
        tagged(self._graph, name, *layers)
        self._content[name] = str(number)

    @rule(name=names)
    def untag(self, name: str) -> None:
        if self._content.pop(name, None) is not None:
            self._graph.store.untag(f"{name}:latest")

    @rule(target=living, name=names)
    def start(self, name: str) -> tuple[Built, str] | None:
        try:
            image = self._rootfs.image(name)
        except UnknownImage:
            assert name not in self._content
            return None
        assert image.hold is not None
        try:
            built = self._driver.build(spec(image))
        except Overload:
            return None
        finally:
            image.hold.drop()
        self._running.append(built)
        return built, self._content[name]

    @rule(it=consumes(living), name=names)
    def snapshot_and_stop(self, it: tuple[Built, str] | None, name: str) -> None:
        if it is None:
            return
        built, content = it
        script = "cat /f; echo new > /work/new"
        assert run(built.native, ["/bin/busybox", "sh", "-c", script]).out() == content.encode()
        built.group.freeze(True)
        with self._graph.store.leasing() as lease:
            base, scratch = built.spec.image.digest, built.native.scratch
            digest = snapshot(self._graph.images, lease, base, scratch, built.uid, "n")
            self._graph.store.tag(f"{name}:latest", digest)
        built.group.freeze(False)
        self._content[name] = content
        self._stop(built)

    @rule(it=consumes(living))
    def stop(self, it: tuple[Built, str] | None) -> None:
        if it is not None:
            said = run(it[0].native, ["/bin/busybox", "cat", "/f"]).out()
            assert said == it[1].encode()
            self._stop(it[0])

    @rule()
    def collect(self) -> None:
        collect(self._graph.store)
        layers = {path.name for path in (self._graph.store.root / "layers").iterdir()}
        for built in self._running:
            image = built.spec.image
            assert {image.lower.name, *(path.name for path in image.below)} <= layers

    def _stop(self, built: Built) -> None:
        self._running.remove(built)
        self._driver.destroy(built)

    @invariant()
    def whole(self) -> None:
        assert list(verify(self._graph.store)) == []

    def teardown(self) -> None:
        for built in list(self._running):
            self._stop(built)
        self._driver.close()
        self._cgroups.close()
        self._graph.close()
        shutil.rmtree(self._directory)


# A failure is told as it was found: to make it shorter would take more than the test's time.
UNSHRUNK = [phase for phase in Phase if phase is not Phase.shrink]
TestLiving = LivingMachine.TestCase
TestLiving.settings = settings(
    max_examples=12, phases=UNSHRUNK, stateful_step_count=20, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
