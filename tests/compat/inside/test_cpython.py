"""CPython's own test suite ends inside as it does outside, but for what `differences.toml` explains."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from sandboxd.drivers.graph.image import Image
from tests.compat.inside import outside
from tests.compat.inside.conftest import ALL, Inside
from tests.compat.inside.cpython import (
    QUICK,
    SLOW,
    SUITE,
    Side,
    command,
    differences,
    differing,
    read,
    unexplained,
)

SECONDS = 60.0
SEEN: list[tuple[str, str, str]] = []
"""Every difference of this session that stood: test, outside, inside."""

pytestmark = [pytest.mark.root, pytest.mark.service, pytest.mark.timeout(8 * SECONDS)]


def both(inside: Inside, image: Image, tests: list[str]) -> tuple[Side, Side]:
    """The same tests on both sides, at the same time."""
    argv, files = command(SECONDS * 0.8, tests), {"suite.py": SUITE}
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(outside.run, image, argv, files, seconds=SECONDS)
        here = inside.run(argv, files, seconds=SECONDS)
        return read(there.result().stdout), read(here["stdout"])


@pytest.mark.parametrize("module", [*QUICK, *(SLOW if ALL else ())])
def test_module_ends_inside_as_outside(inside: Inside, image: Image, module: str) -> None:
    if not image.has("/usr/lib/python3.11/test/test_os.py"):
        pytest.skip("this machine has no libpython3.11-testsuite")
    there, here = both(inside, image, [module])
    assert here.outcomes, "nothing ran inside"
    found = differing(there, here)
    if found:
        # Some tests fail now and then anywhere: only what fails by itself too counts.
        names = [test.removeprefix("test.") for test in found]
        there, here = both(inside, image, names)
        found = differing(there, here)
    SEEN.extend((test, there.outcomes[test], here.outcomes[test]) for test in found)
    left = unexplained(there, here, found, differences())
    assert not left, "\n".join(left)


@pytest.mark.skipif(not ALL, reason="only a whole run meets every difference")
def test_every_accepted_difference_was_met() -> None:
    stale = [
        difference.tests
        for difference in differences()
        if not any(difference.covers(*seen) for seen in SEEN)
    ]
    assert stale == []
