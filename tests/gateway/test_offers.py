"""A language that no live node can run is refused at the door, not failed inside."""

from typing import cast

import pytest

from sandboxd.errors import UnknownLanguage
from sandboxd.gateway.offers import Offers
from sandboxd.model import NodeRecord
from sandboxd.queue import Queue


class Nodes:
    """The part of the queue that is asked."""

    def __init__(self, *languages: list[str]) -> None:
        self.languages = list(languages)
        self.asked = 0

    async def nodes(self) -> list[NodeRecord]:
        self.asked += 1
        return [
            NodeRecord(
                id=f"n{i}", address="unix:/x", started_at="", version="", isolation=[],
                languages=offered, cpu_capacity=0, cpu_reserved=0, memory_capacity=0,
                memory_reserved=0, pools={}, running=0,
            )
            for i, offered in enumerate(self.languages)
        ]  # fmt: skip


async def test_a_language_of_any_node_is_accepted() -> None:
    offers = Offers(cast(Queue, Nodes(["c"], ["python"])))
    await offers.check("python")
    await offers.check(None)


async def test_a_language_of_no_node_is_refused_naming_the_field() -> None:
    with pytest.raises(UnknownLanguage) as caught:
        await Offers(cast(Queue, Nodes(["c"]))).check("cobol")
    assert caught.value.field == "language"


async def test_without_nodes_a_run_may_wait_for_one() -> None:
    await Offers(cast(Queue, Nodes())).check("cobol")


async def test_the_queue_is_asked_once_a_second_at_most() -> None:
    nodes, now = Nodes(["c"]), [0.0]
    offers = Offers(cast(Queue, nodes), clock=lambda: now[0])
    for now[0] in (0.0, 0.5, 1.0, 1.5, 2.0):
        await offers.check("c")
    assert nodes.asked == 2
