"""Every attack through the HTTP API of a real service.

All chosen cases are in flight together; each test then looks at its own finding, and the last one at
what all of them left on the host.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack.case import Case, Outcome
from tests.attack.conftest import VACUOUS
from tests.attack.suite import CASES, Fight, fight

WITHIN = 380.0
"""Seconds for all cases at once, on a starved machine; an idle one takes a fifth of it."""

pytestmark = [pytest.mark.root, pytest.mark.service, pytest.mark.timeout(WITHIN + 20)]


@pytest.fixture(scope="module")
def attack(request: pytest.FixtureRequest) -> Iterator[Fight]:
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = [spec.params.get("case") for spec in specs if spec is not None]
    # The gateway's and the queue's own users have to get through, which tmp_path forbids.
    with tempfile.TemporaryDirectory(prefix="sandboxd-attack-") as name:
        Path(name).chmod(0o711)
        with fight(Path(name)) as started:
            started.start(tuple(case for case in CASES if case in chosen))
            yield started
            harm = started.after_all()
            assert not harm, harm


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_attack_fails_and_leaves_the_host_as_it_was(case: Case, attack: Fight) -> None:
    finding = attack.findings[case.id].result(WITHIN)
    if finding.outcome is Outcome.VACUOUS:
        pytest.skip(VACUOUS + finding.reason)
    assert finding.outcome in (Outcome.HELD, Outcome.OPEN), f"{case.promise}: {finding.reason}"
