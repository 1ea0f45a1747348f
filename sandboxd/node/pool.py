"""Keeps sandboxes of each template built ahead, and hands them out.

A claim is a pop from a list. Building and destroying happen in threads (the native core releases the
GIL) and off the path of a run; how many run at once is bounded. When the stock is empty a claim waits
for the build that it caused. What fails to be destroyed is reported and kept out of use.
"""

import asyncio
import logging
import math
import time
from collections import deque
from functools import partial

from sandboxd.drivers.exec.base import Built, ExecDriver, Spec
from sandboxd.errors import DriverFault, Overload, SandboxdError, SystemFault
from sandboxd.node.burial import Burial
from sandboxd.node.demand import LOOK_AGAIN, Demand, wanted
from sandboxd.node.hands import End, Hands
from sandboxd.node.stock import Stock, step

log = logging.getLogger(__name__)
_EMPTY, _INTERPRETER = 1 << 20, 16 << 20
"""Bytes that a sandbox which waits is taken to hold, without and with an interpreter: its control group
is charged with a third of one MiB, and with 2 (Python), 8 (Node), 16 (Java)."""


class _Shelf:
    """One template's stock and its waiting claims."""

    def __init__(self, spec: Spec, target: int, most: int, wish: int) -> None:
        self.spec, self.least, self.most, self.wish = spec, target, most, wish
        self.target = target
        self.demand = Demand()
        self.ready: deque[Built] = deque()
        self.waiting: deque[asyncio.Future[Built]] = deque()
        self.building = 0
        self.failures = 0
        self.failed_at = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.due = 0.0
        """When the timer goes off."""

    @property
    def weight(self) -> int:
        """Bytes that one of it is taken to hold."""
        return _EMPTY if self.spec.warm is None else _INTERPRETER

    def lacks(self) -> bool:
        """More is wanted of it than is there or on its way."""
        there = len(self.ready) + self.building
        return there < self.target + len(self.waiting)

    def stock(self, claimed_at: float) -> Stock:
        return Stock(
            target=self.target,
            ready=tuple(built.built_at for built in self.ready),
            building=self.building,
            waiting=len(self.waiting),
            failures=self.failures,
            failed_at=self.failed_at,
            claimed_at=claimed_at,
        )


class Pool:
    def __init__(
        self, driver: ExecDriver, *, concurrency: int, max_age: float, room: int = 1 << 40
    ) -> None:
        """`concurrency` builds at once over all templates; `max_age` seconds on the shelf; `room` is
        how many bytes those kept may hold in all, above what templates have at least."""
        self._room = room
        self._driver, self._concurrency, self._max_age = driver, concurrency, max_age
        self._builders = Hands(concurrency, "build")
        self._breakers = Hands(concurrency, "destroy")
        self._shelves: dict[str, _Shelf] = {}
        self._under_way = 0
        """Pieces of work given to threads."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        self._claimed_at = -math.inf
        self._burial = Burial(self._destroy, lambda: self._claimed_at)
        self.built = 0
        self.build_seconds = 0.0
        self.build_failures = 0
        self.cold_claims = 0
        """Claims that found no warm sandbox."""

    def stock(self, spec: Spec, target: int, most: int | None = None, *, wish: int = 0) -> None:
        """Begin to keep `target` sandboxes of this template, or up to `most` while they are asked
        for; `wish` of them where there is room."""
        self._shelves[spec.template] = _Shelf(spec, target, target if most is None else most, wish)
        self._step(self._shelves[spec.template])

    def has(self, template: str) -> bool:
        return template in self._shelves

    def bounds(self, template: str, wish: int, most: int) -> None:
        """Keep other numbers from now on."""
        shelf = self._shelves[template]
        if (shelf.wish, shelf.most) != (wish, most):
            shelf.wish, shelf.most = wish, most
            self._step(shelf)

    def forget(self, template: str) -> bool:
        """Keep none of a template any more; False if somebody still waits or builds there."""
        shelf = self._shelves[template]
        if shelf.waiting or shelf.building or shelf.ready:
            shelf.least = shelf.most = shelf.wish = 0
            self._step(shelf)
            return False
        if shelf.timer is not None:
            shelf.timer.cancel()
        del self._shelves[template]
        return True

    def spec(self, template: str) -> Spec:
        """Of which sandboxes are kept now."""
        return self._shelves[template].spec

    def renew(self, spec: Spec, target: int) -> None:
        """Keep sandboxes of this spec instead of the template's former one, which are destroyed."""
        shelf = self._shelves[spec.template]
        shelf.most += target - shelf.least
        shelf.spec, shelf.least = spec, target
        while shelf.ready:
            self.discard(shelf.ready.popleft())
        self._step(shelf)

    def warm(self) -> dict[str, int]:
        return {name: len(shelf.ready) for name, shelf in self._shelves.items()}

    async def claim(self, *templates: str) -> Built:
        """A sandbox for one use: of the first template that has one ready, or built for the last.

        Raises NativeFault or DriverFault if it had to be built and could not be, Overload if the
        node is stopping or has no uid range left.
        """
        self._claimed_at = now = time.monotonic()
        for template in templates:
            if template not in self._shelves:
                raise DriverFault("pool", "find the template", template)
            shelf = self._shelves[template]
            shelf.demand.note(now)
            while shelf.ready:
                built = shelf.ready.popleft()
                self._later(shelf)
                if self._driver.lives(built):
                    return built
                # The host took it, for want of memory say: no fault of the job that it was to be for.
                log.warning("sandbox %s ended on the shelf", built.name)
                self.discard(built)
        if self._closing:
            raise Overload("the node is stopping", retry_after=1.0)
        self.cold_claims += 1
        future: asyncio.Future[Built] = asyncio.get_running_loop().create_future()
        shelf.waiting.append(future)
        self._step(shelf)
        try:
            return await future
        except asyncio.CancelledError:
            if future in shelf.waiting:
                shelf.waiting.remove(future)
            elif not future.cancelled() and future.exception() is None:
                self.restock(future.result())
            raise

    async def make(self, spec: Spec) -> Built:
        """A sandbox that no shelf keeps, built for this one use. Raises as `claim` does."""
        if self._closing:
            raise Overload("the node is stopping", retry_after=1.0)
        self.cold_claims += 1
        future: asyncio.Future[Built] = asyncio.get_running_loop().create_future()
        self._begin()
        self._builders.do(partial(self._driver.build, spec), partial(self._made, future))
        return await future

    def _made(self, future: asyncio.Future[Built], end: End[Built]) -> None:
        self._end()
        try:
            built = end.result()
        except SandboxdError as error:  # a volume that is gone or taken is the request's fault
            if future.cancelled():
                log.error("build of a sandbox failed: %s", error)
            else:
                future.set_exception(error)
        else:
            if future.cancelled():
                self.discard(built)
            else:
                future.set_result(built)

    def restock(self, built: Built) -> None:
        """Take back a sandbox that was handed out and never used."""
        shelf = self._shelves.get(built.spec.template)
        if shelf is None or built.spec is not shelf.spec:
            self.discard(built)
        elif not self._hand_over(shelf, built):
            shelf.ready.appendleft(built)  # it came from the old end
            self._later(shelf)  # which may be one too many by now

    def discard(self, built: Built) -> None:
        """Destroy a sandbox that was handed out, in the background, once claims pause."""
        self._begin()
        self._burial.add(built)

    def _destroy(self, built: Built) -> None:
        self._breakers.do(partial(self._driver.destroy, built), partial(self._destroyed, built))

    def _destroyed(self, built: Built, end: End[None]) -> None:
        self._end()
        try:
            end.result()
        except SystemFault as error:
            log.error("sandbox %s would not go: %s", built.name, error)

    def _begin(self) -> None:
        self._under_way += 1
        self._idle.clear()

    def _end(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    def _later(self, shelf: _Shelf) -> None:
        """Refill after the run that made room has had its turn."""
        asyncio.get_running_loop().call_soon(self._step, shelf)

    def _step(self, shelf: _Shelf) -> None:
        if self._closing:
            return
        slots = self._concurrency - sum(other.building for other in self._shelves.values())
        now = time.monotonic()
        shelf.target = wanted(
            shelf.demand.ahead(now),
            least=shelf.least,
            most=shelf.most,
            wish=shelf.wish,
            room=self._room_beside(shelf) // shelf.weight,
        )
        todo = step(shelf.stock(self._claimed_at), now=now, max_age=self._max_age, slots=slots)
        for _ in range(todo.retire):
            self.discard(shelf.ready.popleft())
        for _ in range(todo.build):
            shelf.building += 1
            self._begin()
            self._builders.do(
                partial(self._driver.build, shelf.spec), partial(self._built, shelf, now)
            )
        again = [] if todo.again_in is None else [todo.again_in + 0.001]
        if shelf.target > max(shelf.least, shelf.wish):
            again.append(LOOK_AGAIN)
        if again:
            self._look_again(shelf, now + min(again))

    def _room_beside(self, shelf: _Shelf) -> int:
        """Bytes that the other templates leave."""
        others = (other for other in self._shelves.values() if other is not shelf)
        return self._room - sum(other.target * other.weight for other in others)

    def _look_again(self, shelf: _Shelf, due: float) -> None:
        """At `due`, or before: one that comes too early sets the next."""
        if shelf.timer is not None:
            if shelf.due <= due:
                return
            shelf.timer.cancel()
        loop = asyncio.get_running_loop()
        shelf.due = due
        shelf.timer = loop.call_later(max(0.0, due - time.monotonic()), self._on_timer, shelf)

    def _on_timer(self, shelf: _Shelf) -> None:
        shelf.timer = None
        self._step(shelf)

    def _built(self, shelf: _Shelf, begin: float, end: End[Built]) -> None:
        shelf.building -= 1
        try:
            self._take_in(shelf, begin, end)
        finally:
            # There is a slot for another build: for whoever lacks one, and for this shelf.
            for other in self._shelves.values():
                if other is shelf or other.lacks():
                    self._step(other)
            self._end()

    def _take_in(self, shelf: _Shelf, begin: float, end: End[Built]) -> None:
        try:
            built = end.result()
        except (SystemFault, Overload) as error:
            self._failed(shelf, error)
            return
        shelf.failures = 0
        self.built += 1
        took = time.monotonic() - begin
        self.build_seconds += took
        shelf.demand.built(took)
        if built.spec is not shelf.spec:
            self.discard(built)  # renewed meanwhile
        elif not self._hand_over(shelf, built):
            shelf.ready.append(built)

    def _failed(self, shelf: _Shelf, error: SystemFault | Overload) -> None:
        shelf.failures += 1
        shelf.failed_at = time.monotonic()
        self.build_failures += 1
        log.error("build of template %s failed: %s", shelf.spec.template, error)
        while shelf.waiting:
            future = shelf.waiting.popleft()
            if not future.done():
                future.set_exception(error)
                return

    def _hand_over(self, shelf: _Shelf, built: Built) -> bool:
        """Give it to who waits longest; False if nobody does."""
        while shelf.waiting:
            future = shelf.waiting.popleft()
            if not future.done():
                future.set_result(built)
                return True
        return False

    async def close(self) -> None:
        """Destroy every sandbox that was not handed out and wait for all work to end."""
        self._closing = True
        self._burial.close()
        for shelf in self._shelves.values():
            if shelf.timer is not None:
                shelf.timer.cancel()
                shelf.timer = None
            for future in shelf.waiting:
                future.cancel()
        while self._under_way or any(shelf.ready for shelf in self._shelves.values()):
            for shelf in self._shelves.values():
                while shelf.ready:
                    self.discard(shelf.ready.popleft())
            await self._idle.wait()
        await self._builders.close()
        await self._breakers.close()
