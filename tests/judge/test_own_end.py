"""A program that had ended before we ended it keeps its own end."""

import pytest

from sandboxd.model import Limits, Status
from sandboxd.node.judging.interaction import _own_end
from sandboxd.node.judging.program import Ran
from sandboxd.node.outcome import Facts, Stop, classify
from sandboxd.node.sandbox import Ended


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        (Facts(stops=frozenset({Stop.CANCELLED, Stop.WALL_TIME})), Status.WALL_TIME_EXCEEDED),
        (Facts(stops=frozenset({Stop.CANCELLED}), wait_status=0), Status.OK),
        (Facts(stops=frozenset({Stop.CANCELLED}), wait_status=1 << 8), Status.NONZERO_EXIT),
        (Facts(stops=frozenset({Stop.CANCELLED}), oom_kills=1), Status.MEMORY_EXCEEDED),
        (Facts(stops=frozenset({Stop.CANCELLED})), Status.CANCELLED),
        (Facts(stops=frozenset({Stop.CPU_TIME})), Status.CPU_TIME_EXCEEDED),
    ],
)
def test_a_late_stop_does_not_hide_how_a_program_ended(facts: Facts, status: Status) -> None:
    limits = Limits()
    ran = Ran(
        verdict=classify(facts, limits),
        ended=Ended(facts=facts, peak_memory=0, init_alive=False),
        stdout=b"", stderr=b"", cut=(False, False), files=[], layers=frozenset(),
    )  # fmt: skip
    assert _own_end(ran, limits).verdict.status is status
