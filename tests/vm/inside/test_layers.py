"""What AppArmor stops alone: deeds of the attack suite, as root and outside of any sandbox.

Half of the proof that two layers stop each core case; the other half is tests/attack/test_layers, whose
kernel has no AppArmor.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack import arsenal, outside
from tests.attack.cases.power import APPARMOR, DEEDS
from tests.attack.judging import Deed
from tests.vm.inside.labels import ENTER, loaded, parser
from tests.vm.machine import PROJECT

BOTH = f'({ENTER}); shift; exec "$@"'
POLICY = PROJECT / "policies/apparmor/sandboxd"


@pytest.fixture(scope="module")
def shown() -> Iterator[Path]:
    """What the probes see at /opt/attack; and the profile is loaded."""
    before = loaded()
    parser("--replace", str(POLICY))
    with tempfile.TemporaryDirectory(prefix="attack-") as name:
        Path(name).chmod(0o711)
        weapons = arsenal.make(Path(name))
        yield weapons.outdoors
        weapons.close()
    if "sandboxd" not in before:
        parser("--remove", str(POLICY))


@pytest.mark.parametrize("deed", [d for d in DEEDS if d.name in APPARMOR], ids=lambda d: d.id)
def test_the_profile_alone_stops_it(deed: Deed, shown: Path) -> None:
    # Twice in the same namespaces: under the profile, where it changes nothing, and then without.
    under = ["sh", "-c", BOTH, "sh", "sandboxd"]
    lines = outside.run(shown, deed.argv, network=deed.network, under=under)
    first, second = (lines.get(name) for name in (deed.name, f"{deed.name}#2"))
    assert first is not None, "it did not run under the profile"
    assert deed.failed(first), "it works under the profile"
    assert second == "ok", f"without the profile it does not work either: {second}"
