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
_RETRY = 10.0
_WARM_UP_TIMEOUT_MS = 10_000


def warm_up(socket: int, order: ExecOrder) -> None:
    """Start an interpreter by its exec socket; blocks until it waits there.

    Raises DriverFault if it does not come so far.
    """
    null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
    try:
        send_exec(socket, order, None, null, null)
    finally:
        os.close(null)
    waiter = select.poll()
    waiter.register(socket, select.POLLIN)
    message = receive(socket) if waiter.poll(_WARM_UP_TIMEOUT_MS) else None
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


class Zygotes:
    """Of one driver, by the name of the template that they serve. Any thread may use it."""

    def __init__(self, start: Callable[[Spec], Native]) -> None:
        """`start` makes a process that waits for the order to become an interpreter."""
        self._start = start
        self._lock = threading.Lock()
        self._live: dict[str, _Zygote] = {}
        self._failed: dict[str, float] = {}
        self.started = 0

    @contextmanager
    def lend(self, spec: Spec) -> Iterator[int]:
        """The socket of a zygote to make one copy by; -1 if there is none for this spec: it wants
        none, or none would start. A copy that fails ends its zygote. Blocks while one starts."""
        if spec.warm is None or spec.warm.copies == 0 or spec.image.uid_base is not None:
            yield -1
            return
        zygote = self._take(spec)
        if zygote is None:
            yield -1
            return
        try:
            yield zygote.native.exec
        except NativeFault:
            self._retire(zygote)
            raise
        finally:
            self._give_back(zygote)

    def pids(self) -> list[int]:
        """Of those that make copies now, as the host sees them."""
        with self._lock:
            return [zygote.native.pid for zygote in self._live.values()]

    def _take(self, spec: Spec) -> _Zygote | None:
        with self._lock:
            zygote = self._live.get(spec.template)
            if zygote is not None and not zygote.fresh():
                del self._live[spec.template]
                zygote.retire()
                zygote = None
            if zygote is None:
                zygote = self._new(spec)
                if zygote is None:
                    return None
                self._live[spec.template] = zygote
            zygote.users += 1
            zygote.left -= 1
            return zygote

    def _new(self, spec: Spec) -> _Zygote | None:
        assert spec.warm is not None
        if time.monotonic() - self._failed.get(spec.template, -_RETRY) < _RETRY:
            return None
        try:
            native = self._start(spec)
            try:
                warm_up(native.exec, spec.warm.zygote)
            except BaseException:
                _Zygote(native, 0).retire()
                raise
        except (DriverFault, NativeFault) as error:
            log.error("no zygote for %s, interpreters start one by one: %s", spec.template, error)
            self._failed[spec.template] = time.monotonic()
            return None
        self.started += 1
        return _Zygote(native, spec.warm.copies)

    def _give_back(self, zygote: _Zygote) -> None:
        with self._lock:
            zygote.users -= 1
            if zygote.retired:
                zygote.retire()

    def _retire(self, zygote: _Zygote) -> None:
        with self._lock:
            self._live = {name: other for name, other in self._live.items() if other is not zygote}
            zygote.retired = True

    def close(self) -> None:
        """End all of them; nobody may be using one."""
        with self._lock:
            for zygote in self._live.values():
                zygote.retire()
            self._live.clear()
