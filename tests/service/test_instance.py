"""What the tests' own services keep apart."""

from itertools import pairwise
from pathlib import Path

from tests.service.instance import Service


def test_services_that_are_there_together_share_no_uid(tmp_path: Path) -> None:
    services = [Service(tmp_path) for _ in range(8)]
    ranges = sorted((each.sandbox_uids for each in services), key=lambda uids: uids.start)
    assert all(one.stop <= other.start for one, other in pairwise(ranges))
