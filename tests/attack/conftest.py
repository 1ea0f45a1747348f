"""A vacuous case is an outcome of its own: neither passed nor failed, and told with its reason."""

import pytest

from tests.attack.case import Outcome

VACUOUS = f"{Outcome.VACUOUS}: "
_REASONS = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_REASONS] = []


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(
    report: pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith(VACUOUS):
        return None
    if report.nodeid not in config.stash[_REASONS]:
        config.stash[_REASONS].append(f"{report.nodeid}: {reason.removeprefix(VACUOUS)}")
    return str(Outcome.VACUOUS), "v", "VACUOUS"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = terminalreporter.config.stash.get(_REASONS, [])
    if reasons:
        terminalreporter.section("vacuous attack cases")
        for reason in reasons:
            terminalreporter.line(reason)
