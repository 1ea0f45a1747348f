"""A program and its interactor: two sandboxes, two accounts, and two pipes between them.

Without a transcript the pipes are the programs' own and no byte passes through the node. With one, the
node stands in the middle of each, reads a piece only when the one before has been taken, and notes it.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

from msgspec import Struct
from msgspec.structs import replace

from sandboxd.model import Limits
from sandboxd.model.judgement import Line
from sandboxd.native import ExecOrder
from sandboxd.node.judging.program import Ran, Workplace
from sandboxd.node.judging.relay import pipe
from sandboxd.node.outcome import Stop, classify
from sandboxd.node.stdio import LiveInput, PassedInput, PassedOutput

_AFTER = 5.0
"""Seconds that an interactor has left when its program has ended."""
_TURN = 5.0
"""Seconds that a process may wait for a core on a busy machine."""
Speaker = Literal["program", "interactor"]


class Side(Struct, frozen=True, kw_only=True):
    """One of the two."""

    shelves: tuple[str, ...]
    order: ExecOrder
    limits: Limits
    collect: list[str] = []
    budget: int = 0
    core: int | None = None


class Interacted(Struct, frozen=True, kw_only=True):
    program: Ran
    interactor: Ran
    interactor_first: bool
    """It had ended when the program ended."""
    transcript: list[Line] | None


class Transcript:
    """Who said what, `room` bytes of it."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._pieces: list[tuple[Speaker, bytearray]] = []

    def note(self, by: Speaker, data: bytes) -> None:
        data = data[: self._room]
        self._room -= len(data)
        if not data:
            return
        if self._pieces and self._pieces[-1][0] == by:
            self._pieces[-1][1].extend(data)
        else:
            self._pieces.append((by, bytearray(data)))

    def lines(self) -> list[Line]:
        return [Line(by, data.decode(errors="replace")) for by, data in self._pieces]


async def interact(
    place: Workplace,
    program: Side,
    interactor: Side,
    accepts: Callable[[Ran], bool],
    transcript: Transcript | None,
) -> Interacted:
    """Run both until both have ended.

    The program is ended as soon as the interactor has rejected it, by `accepts`; the interactor is
    given some seconds when the program has ended. Raises SystemFault or Overload if the host failed.
    """
    parts = place.part(), place.part()
    async with asyncio.TaskGroup() as copying:
        there, back = (
            pipe(copying, partial(transcript.note, by) if transcript is not None else None)
            for by in get_args(Speaker)
        )
        solution = asyncio.create_task(_run(parts[0], program, back[0], there[1]))
        judge = asyncio.create_task(_run(parts[1], interactor, there[0], back[1]))
        both = {solution, judge}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if judge.done() and not solution.done():
                if judge.exception() is not None or not accepts(judge.result()):
                    parts[0].stop()
            elif not judge.done():
                await asyncio.wait({judge}, timeout=_AFTER)
                if not judge.done():
                    parts[1].stop()
            await asyncio.wait(both)
        except BaseException:
            for part in parts:
                part.stop()
            await asyncio.wait(both)
            raise
    ended, judged = solution.result(), judge.result()
    if not place.stopped:
        ended = _own_end(ended, program.limits)
    return Interacted(
        program=ended,
        interactor=judged,
        interactor_first=_before(judged, ended),
        transcript=transcript.lines() if transcript is not None else None,
    )


def _before(one: Ran, other: Ran) -> bool:
    """Whether it ended first. Each end is stamped by that sandbox's init, when it gets a core: what is
    closer than that is told by the streams, which the kernel closes in the order of the ends."""
    near = abs(one.ended.at - other.ended.at) < _TURN
    if near and one.closed_at is not None and other.closed_at is not None:
        return one.closed_at < other.closed_at
    return one.ended.at < other.ended.at


def _own_end(ran: Ran, limits: Limits) -> Ran:
    """Its end without ours, where it had ended already, by itself or by a limit: the interactor hears
    of that sooner than we do, and our answer to its rejection comes too late to matter."""
    facts = ran.ended.facts
    stops = facts.stops - {Stop.CANCELLED}
    if stops == facts.stops or not (stops or facts.oom_kills or facts.wait_status is not None):
        return ran
    return replace(ran, verdict=classify(replace(facts, stops=stops), limits))


async def _run(
    place: Workplace, side: Side, stdin: PassedInput | LiveInput, stdout: PassedOutput
) -> Ran:
    return await place.run(
        side.shelves, side.order, side.limits, stdin,
        stdout=stdout, collect=side.collect, budget=side.budget, core=side.core,
    )  # fmt: skip
