"""A host that gives user namespaces to root alone, as Debian (this setting) and Ubuntu (by AppArmor) can.

The node is root, so that its sandboxes are built as ever; and one layer more stands between a job and a
user namespace of its own.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack import arsenal
from tests.attack.direct import Bench, benches
from tests.attack.layers import SWITCHES

BARE = tuple(name for name in SWITCHES if name not in ("capabilities", "identity"))
"""Left out: all but what makes the job an ordinary user, to whom the setting is addressed."""
SETTING = Path("/proc/sys/kernel/unprivileged_userns_clone")
NOBODY = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "unshare",
    "--user",
    "true",
]


@pytest.fixture
def restricted() -> Iterator[None]:
    before = SETTING.read_text()
    SETTING.write_text("0")
    yield
    SETTING.write_text(before)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="userns-") as name:
        Path(name).chmod(0o711)
        weapons = arsenal.make(Path(name))
        with benches(Path(name), weapons.outdoors, 1) as [bench]:
            yield bench
        weapons.close()


def _ask(bench: Bench, deed: str, without: tuple[str, ...]) -> str:
    lines = bench.probe(("deed", deed), without)
    assert lines is not None
    return lines[deed]


def _may_unshare() -> bool:
    return subprocess.run(NOBODY, capture_output=True, check=False).returncode == 0


def test_setting_takes_user_namespaces_from_others_than_root(restricted: None) -> None:
    assert not _may_unshare()
    SETTING.write_text("1")
    assert _may_unshare()


def test_node_builds_every_layer_and_its_jobs_get_no_user_namespace(
    bench: Bench, restricted: None
) -> None:
    assert _ask(bench, "new_user", ()) != "ok"
    # It ran: what is allowed works as ever.
    views = bench.probe(("view", "uid_map"), ())
    assert views is not None and views["uid_map"] == "one one"


@pytest.mark.parametrize("deed", ["new_user", "clone_user"])
def test_setting_stops_a_job_when_no_layer_of_ours_does(bench: Bench, deed: str) -> None:
    before = SETTING.read_text()
    try:
        SETTING.write_text("1")
        assert _ask(bench, deed, BARE) == "ok"
        SETTING.write_text("0")
        assert _ask(bench, deed, BARE) != "ok"
    finally:
        SETTING.write_text(before)
