"""The standard bench: peers and service interleaved (A B C A B C …), closed loop.

Neighbours in time are compared, so that a slow minute of the machine hits all of them alike; the
order turns by one each round, so that nobody always runs after the same neighbour.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct

from loadtest.cell import Key, Rounds
from loadtest.closedloop import ClosedLoad
from loadtest.http1 import ExchangeError
from loadtest.measurement import Measurement
from loadtest.peers import Peer, PeerError
from loadtest.workload import Workload

Say = Callable[[str], None]
_WARM_UP = ClosedLoad(clients=2, seconds=0.3, max_jobs=20)


class Plan(Struct, frozen=True, kw_only=True):
    rounds: int = 5
    seconds: float = 1.5
    """Of one cell in one round, at most."""
    budget: float = 240.0
    """Seconds that all cells may take together: with more peers, each has less."""
    clients: tuple[int, ...] = (1, 2, 8, 32)

    def of_cell(self, cells: int) -> float:
        """Seconds of one cell in one round, of so many."""
        return min(self.seconds, self.budget / max(1, self.rounds * cells))


QUICK = Plan(rounds=2, seconds=0.35)


class BrokenPeerError(Exception):
    """A peer that must run does not; the text says what it answered."""


async def warm_up(
    peers: Sequence[Peer], workloads: Sequence[Workload], required: Peer, say: Say
) -> list[Peer]:
    """A few jobs of each, unmeasured: the peers that answer right. Others are named to `say`.

    Raises BrokenPeerError if `required` is among them.
    """
    sound: list[Peer] = []
    for peer in peers:
        fault = None
        for workload in workloads:
            if fault is None and peer.runs(workload):
                fault = await _tried(peer, workload)
        if fault is None:
            sound.append(peer)
        elif peer is required:
            raise BrokenPeerError(f"{peer.name}: {fault}")
        else:
            say(f"left out: {peer.name}: {fault}")
    return sound


async def measure(
    peers: Sequence[Peer], workloads: Sequence[Workload], plan: Plan, say: Say
) -> dict[Key, Rounds]:
    """Every round of every cell. Raises PeerError."""
    results: dict[Key, Rounds] = {
        (workload.name, clients, peer.name): []
        for workload in workloads
        for clients in plan.clients
        for peer in peers
        if peer.runs(workload)
    }
    seconds = plan.of_cell(len(results))
    for number in range(plan.rounds):
        turn = number % len(peers)
        order = [*peers[turn:], *peers[:turn]]
        for workload in workloads:
            for clients in plan.clients:
                load = ClosedLoad(clients=clients, seconds=seconds)
                for peer in order:
                    if peer.runs(workload):
                        measured = await peer.measure(workload, load)
                        results[workload.name, clients, peer.name].append(measured)
        say(f"round {number + 1} of {plan.rounds} done")
    return results


async def _tried(peer: Peer, workload: Workload) -> str | None:
    try:
        return _fault(workload, await peer.measure(workload, _WARM_UP))
    except (PeerError, ExchangeError) as error:
        return f"{workload.name}: {error}"


def _fault(workload: Workload, measured: Measurement) -> str | None:
    for kind in measured.errors:
        words = " ".join(measured.examples[kind].split())  # it becomes one item of a list
        return f"{workload.name}: {kind}: {words[:300]}"
    return None if measured.ok else f"{workload.name}: no job ended"
