"""All cases, and one fight of all of them."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.attack import arsenal
from tests.attack.arena import RealArena
from tests.attack.case import Case, Finding, broken
from tests.attack.cases import answers, floods, kernel, power, requests, tenants
from tests.attack.hostcheck import HostCheck, interfaces
from tests.service.footprint import Footprint, calm
from tests.service.instance import Service, running
from tests.service.stock import fixed_stock

CASES: tuple[Case, ...] = (
    *floods.CASES,  # they take longest, so they start first
    *tenants.CASES,
    *kernel.CASES,
    *power.CASES,
    *answers.CASES,
    *requests.CASES,
)
AT_ONCE, FLOODS_AT_ONCE = 8, 2
_KEPT_CONNECTIONS = 64


class Fight:
    """The service under attack, and what came of it."""

    def __init__(self, service: Service, arena: RealArena) -> None:
        self._service, self._arena = service, arena
        self._check = HostCheck(service, arena.arsenal)
        self._interfaces = interfaces()
        self._footprint = asyncio.run(calm(service))
        self._pools = {
            True: ThreadPoolExecutor(FLOODS_AT_ONCE),
            False: ThreadPoolExecutor(AT_ONCE),
        }
        self.findings: dict[str, Future[Finding]] = {}

    def start(self, cases: tuple[Case, ...]) -> None:
        for case in cases:
            pool = self._pools[case.theme == "floods"]
            self.findings[case.id] = pool.submit(self._one, case)

    def _one(self, case: Case) -> Finding:
        try:
            finding = case.run(self._arena)
        except AssertionError as error:
            finding = broken(str(error))
        harm = self._check.after()
        return broken("; ".join([finding.reason, *harm])) if harm else finding

    def after_all(self) -> list[str]:
        """Waits for every case. What the host shows that was not there before."""
        for pool in self._pools.values():
            pool.shutdown()
        found = self._check.after()
        found += _grown(self._footprint, asyncio.run(calm(self._service)))
        if more := interfaces() - self._interfaces:
            found.append(f"new interfaces: {sorted(more)}")
        if not self._check.secret_unread():
            found.append("the canary has changed")
        self._check.close()
        return found


def _grown(before: Footprint, after: Footprint) -> list[str]:
    """Processes, control groups, mounts, namespaces and descriptors that are still there."""
    found = [
        f"{name}: {getattr(before, name)} became {getattr(after, name)}"
        for name in ("cgroups", "mounts", "namespaces", "sandbox_processes", "orphans")
        if getattr(after, name) > getattr(before, name)
    ]
    # Kept connections come and go.
    return found + [
        f"descriptors of {role}: {before.fds[role]} became {count}"
        for role, count in after.fds.items()
        if count > before.fds[role] + _KEPT_CONNECTIONS
    ]


@contextmanager
def fight(directory: Path) -> Iterator[Fight]:
    """A service of its own whose sandboxes see the arsenal. Raises ServiceError for leftovers."""
    weapons = arsenal.make(directory)
    try:
        settings = (f"host_image.binds=/opt/attack={weapons.directory}", "node.cpu_capacity=16")
        with fixed_stock() as stock, running(*settings, stock) as service:
            arena = RealArena(service, weapons)
            try:
                yield Fight(service, arena)
            finally:
                arena.close()
    finally:
        weapons.close()


def counted(findings: dict[str, Finding]) -> str:
    by_outcome = Counter(finding.outcome for finding in findings.values())
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(by_outcome.items()))
