"""pytest plugin: run the selected tests inside the virtual machine, in one boot.

`python -m pytest -p tests.vm.plugin --vm PATH...` collects on the host as usual; the same tests
then run under a pytest in the guest, and each of its reports is shown on the host as it arrives, as
if the test had run here. A selected test that the guest never reports fails.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.vm.fault import LaneFault
from tests.vm.machine import FILES, MARKER, PORTS, PROJECT, Command, Machine, run

SELECTION = "selection"
REPORT = "report"
# Start-up of plugins that no test in the guest uses costs ten seconds and more under emulation.
UNUSED_PLUGINS = ("schemathesis", "anyio", "cacheprovider")
TEST_TIMEOUT = 600
"""Seconds for one test in the guest: everything is ten to twenty times slower there, and twice as slow
again beside other lanes."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vm", "virtual machine")
    group.addoption("--vm", action="store_true", help="run the selected tests in the machine")
    group.addoption("--vm-timeout", type=float, default=540.0, help="seconds for the whole boot")


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get(MARKER):
        config.pluginmanager.register(Guest(config), "vm-guest")
    elif config.getoption("vm"):
        config.pluginmanager.register(Host(config), "vm-host")


class Guest:
    """Keeps to the host's selection and sends every report to it."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._selected = set(json.loads(Path(FILES, SELECTION).read_text()))
        self._port = open(f"{PORTS}/{REPORT}", "wb", buffering=0)  # noqa: SIM115

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self._selected]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._send(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._send(report)

    def pytest_unconfigure(self) -> None:
        self._port.close()

    def _send(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        view = memoryview(json.dumps(data).encode() + b"\n")
        while view:
            view = view[self._port.write(view) :]


class Host:
    """Takes the place of pytest's own loop: boots, forwards reports, accounts for every test."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._output = bytearray()
        self._finished: set[str] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if self._config.option.collectonly or session.testsfailed:
            return None
        waiting = {item.nodeid: item for item in session.items}
        if not waiting:
            return None
        lines = Lines(lambda line: self._receive(session, waiting, json.loads(line)))
        sinks = {"out": self._output.extend, "err": self._output.extend, REPORT: lines.feed}
        machine = Machine(timeout=self._config.getoption("vm_timeout"))
        try:
            code = run(self._command(waiting), sinks, machine)
            reason = f"the guest's pytest ended with exit code {code} and never reported this test"
        except LaneFault as fault:
            reason = str(fault)
        for item in waiting.values():
            if item.nodeid not in self._finished:
                self._fail(item, reason)
        return True

    def _command(self, waiting: Mapping[str, pytest.Item]) -> Command:
        paths = list(dict.fromkeys(str(item.path) for item in waiting.values()))
        argv = ["python", "-m", "pytest", "-p", "tests.vm.plugin", "-q", "--no-header"]
        argv += ["--no-summary", f"--tb={self._config.option.tbstyle}"]
        argv += ["-o", f"timeout={TEST_TIMEOUT}", "-o", f"faulthandler_timeout={TEST_TIMEOUT - 20}"]
        for name in UNUSED_PLUGINS:
            argv += ["-p", f"no:{name}"]
        selection = json.dumps(list(waiting)).encode()
        return Command([*argv, *paths], PROJECT, files={SELECTION: selection})

    def _receive(
        self, session: pytest.Session, waiting: Mapping[str, pytest.Item], data: dict[str, Any]
    ) -> None:
        hook = self._config.hook
        report = hook.pytest_report_from_serializable(config=self._config, data=data)
        if isinstance(report, pytest.CollectReport):
            hook.pytest_collectreport(report=report)
            return
        # JSON has no tuples, and pytest asserts on these.
        report.location = tuple(report.location)
        if isinstance(report.longrepr, list):
            report.longrepr = tuple(report.longrepr)
        if report.when == "setup":
            hook.pytest_runtest_logstart(nodeid=report.nodeid, location=report.location)
        hook.pytest_runtest_logreport(report=report)
        if report.when == "teardown":
            self._finished.add(report.nodeid)
            hook.pytest_runtest_logfinish(nodeid=report.nodeid, location=report.location)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)

    def _fail(self, item: pytest.Item, reason: str) -> None:
        tail = self._output[-4000:].decode(errors="replace")
        report = pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords={},
            outcome="failed",
            longrepr=f"{reason}\noutput of the guest:\n{tail}",
            when="call",
        )
        self._config.hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        self._config.hook.pytest_runtest_logreport(report=report)
        self._config.hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


class Lines:
    """Cuts a byte stream into lines."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self._sink = sink
        self._rest = b""

    def feed(self, block: bytes) -> None:
        """Take a block; call the sink for each line that is complete."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            self._sink(line)
