"""Interpreters that sandboxes are forked from, started when first needed and replaced after use.

A zygote runs with every right, so only the host's own interpreter is one: no image's program ever
is. It reads nothing of a tenant's (see native/zygote.c). What copies of one zygote have in common is
its address-space layout and its hash secret, hence the bound on their number and on its age.
"""

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sandboxd.drivers.exec.base import Spec
from sandboxd.errors import DriverFault, NativeFault
from sandboxd.native import Armed, ExecOrder, Native, close_all, reap, receive, send_exec

log = logging.getLogger(__name__)

MAX_AGE = 600.0
"""Seconds after which a zygote makes no more copies."""
_RETRY_FIRST, _RETRY_LONGEST = 10.0, 600.0
_WARM_UP_TIMEOUT = 10.0
_ZYGOTE_TIMEOUT = 60.0
"""Seconds; longer, since all its copies are spared what it takes, and only its template waits."""


def warm_up(socket: int, order: ExecOrder, timeout: float = _WARM_UP_TIMEOUT) -> None:
    """Start an interpreter by its exec socket; blocks until it waits there.

    Raises DriverFault if it does not come so far within `timeout` seconds.
    """
    null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
    try:
        send_exec(socket, order, None, null, null)
    finally:
        os.close(null)
    waiter = select.poll()
    waiter.register(socket, select.POLLIN)
    message = receive(socket) if waiter.poll(timeout * 1000) else None
    if not isinstance(message, Armed):
        raise DriverFault("exec", f"warm up {order.argv[0]}", f"it answered {message}")


class _Zygote:
    def __init__(self, native: Native, copies: int) -> None:
        self.native, self.left = native, copies
        self.born = time.monotonic()
        self.users = 0
        self.retired = False

    def fresh(self) -> bool:
        young = time.monotonic() - self.born < MAX_AGE
        return not self.retired and self.left > 0 and young and self._alive()

    def retire(self) -> None:
        """End it, unless somebody is about to make a copy: who then ends it after."""
        self.retired = True
        if self.users > 0:
            return
        try:
            reap(self.native.pidfd)
        except NativeFault as error:
            log.error("a zygote would not go: %s", error)
        close_all(self.native)

    def _alive(self) -> bool:
        end = select.poll()
        end.register(self.native.pidfd, select.POLLIN)
        return not end.poll(0)


class _Seat:
    """Of one template. Whoever starts its zygote holds the lock, and no other template waits."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.zygote: _Zygote | None = None
        self.failures = 0
        self.retry_at = 0.0

    def failed(self) -> None:
        wait = min(_RETRY_FIRST * 2**self.failures, _RETRY_LONGEST)
        self.failures += 1
        self.retry_at = time.monotonic() + wait


class Zygotes:
    """Of one driver, by the name of the template that they serve. Any thread may use it."""

    def __init__(self, start: Callable[[Spec], Native]) -> None:
        """`start` makes a process that waits for the order to become an interpreter."""
        self._start = start
        self._lock = threading.Lock()
        self._seats: dict[str, _Seat] = {}
        self.started = 0

    @contextmanager
    def lend(self, spec: Spec) -> Iterator[int]:
        """The socket of a zygote to make one copy by; -1 if there is none for this spec: it wants
        none, or none would start. A copy that fails ends its zygote. Blocks while one starts."""
        if spec.warm is None or spec.warm.copies == 0 or spec.image.uid_base is not None:
            yield -1
            return
        with self._lock:
            seat = self._seats.setdefault(spec.template, _Seat())
        zygote = self._take(seat, spec)
        if zygote is None:
            yield -1
            return
        try:
            yield zygote.native.exec
        except NativeFault:
            self._retire(seat, zygote)
            raise
        finally:
            self._give_back(seat, zygote)

    def pids(self) -> list[int]:
        """Of those that make copies now, as the host sees them."""
        with self._lock:
            zygotes = [seat.zygote for seat in self._seats.values()]
        return [zygote.native.pid for zygote in zygotes if zygote is not None]

    def _take(self, seat: _Seat, spec: Spec) -> _Zygote | None:
        with seat.lock:
            if seat.zygote is not None and not seat.zygote.fresh():
                seat.zygote.retire()
                seat.zygote = None
            if seat.zygote is None:
                seat.zygote = self._new(seat, spec)
            if seat.zygote is not None:
                seat.zygote.users += 1
                seat.zygote.left -= 1
            return seat.zygote

    def _new(self, seat: _Seat, spec: Spec) -> _Zygote | None:
        assert spec.warm is not None
        if time.monotonic() < seat.retry_at:
            return None
        try:
            native = self._start(spec)
            try:
                warm_up(native.exec, spec.warm.zygote, _ZYGOTE_TIMEOUT)
            except BaseException:
                _Zygote(native, 0).retire()
                raise
        except (DriverFault, NativeFault) as error:
            log.error("no zygote for %s, interpreters start one by one: %s", spec.template, error)
            seat.failed()
            return None
        seat.failures = 0
        self.started += 1
        return _Zygote(native, spec.warm.copies)

    def _give_back(self, seat: _Seat, zygote: _Zygote) -> None:
        with seat.lock:
            zygote.users -= 1
            if zygote.retired:
                zygote.retire()

    def _retire(self, seat: _Seat, zygote: _Zygote) -> None:
        with seat.lock:
            zygote.retired = True
            if seat.zygote is zygote:
                seat.zygote = None

    def close(self) -> None:
        """End all of them; nobody may be using one."""
        with self._lock:
            seats = list(self._seats.values())
            self._seats.clear()
        for seat in seats:
            if seat.zygote is not None:
                seat.zygote.retire()
