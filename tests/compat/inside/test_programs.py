"""Honest programs say inside what they say outside, and succeed at it."""

import pytest

from sandboxd.drivers.graph.image import Image
from tests.compat.inside import outside
from tests.compat.inside.conftest import ALL, Inside
from tests.compat.inside.honest import HONEST

SECONDS = 120.0

pytestmark = [pytest.mark.root, pytest.mark.service, pytest.mark.timeout(3 * SECONDS)]


@pytest.mark.parametrize("name", [name for name, honest in HONEST.items() if ALL or honest.quick])
def test_honest_program_runs_inside_as_outside(inside: Inside, image: Image, name: str) -> None:
    honest = HONEST[name]
    expected = honest.said
    if expected is None:
        if not image.has(honest.needs):
            pytest.skip(f"this machine has no {honest.needs}")
        there = outside.run(image, honest.command, honest.files, seconds=SECONDS, env=honest.env)
        assert there.exit_code == 0, there
        expected = there.stdout
    elif not inside.has(honest.needs):
        pytest.skip(f"this machine has no {honest.needs}")
    here = inside.run(honest.command, honest.files, seconds=SECONDS, env=honest.env)
    assert (here["status"], here["stdout"]) == ("ok", expected), here["stderr"]
