"""Runs modules of CPython's own test suite, on either side: `suite.py SECONDS ID...`.

An ID is a module of `test`, or a test in it. One JSON line per test that ended goes to stdout; what the
tests themselves print goes nowhere. Tests of this process' own end are not among them.
"""

import faulthandler
import json
import os
import signal
import sys
import time
import unittest

# Lines go to a descriptor that no test knows, and that no child inherits.
LINES = os.fdopen(os.dup(1), "w", buffering=1)
PID = os.getpid()


class Outcomes(unittest.TestResult):
    def _line(self, test: unittest.TestCase, outcome: str, why: str = "") -> None:
        if os.getpid() == PID:
            record = {"id": test.id(), "outcome": outcome, "why": why[-1500:]}
            LINES.write(json.dumps(record) + "\n")

    def addSuccess(self, test):  # type: ignore[no-untyped-def]
        self._line(test, "ok")

    def addSkip(self, test, reason):  # type: ignore[no-untyped-def]
        self._line(test, "skipped", reason)

    def addFailure(self, test, err):  # type: ignore[no-untyped-def]
        self._line(test, "failed", self._exc_info_to_string(err, test))

    def addError(self, test, err):  # type: ignore[no-untyped-def]
        self._line(test, "failed", self._exc_info_to_string(err, test))

    def addExpectedFailure(self, test, err):  # type: ignore[no-untyped-def]
        self._line(test, "expected failure")

    def addUnexpectedSuccess(self, test):  # type: ignore[no-untyped-def]
        self._line(test, "unexpected success")

    def addSubTest(self, test, subtest, err):  # type: ignore[no-untyped-def]
        if err is not None:
            self._line(test, "failed", self._exc_info_to_string(err, test))

    def _exc_info_to_string(self, err, test):  # type: ignore[no-untyped-def]
        try:
            return super()._exc_info_to_string(err, test)
        except Exception:
            return str(err[0])


def main() -> None:
    seconds = float(sys.argv[1])
    os.makedirs("t", exist_ok=True)
    os.chdir("t")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    faulthandler.enable(LINES)

    from test import support

    support.use_resources = []  # neither the network nor hours nor gigabytes
    support.verbose = False
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    deadline = time.monotonic() + seconds
    results = Outcomes()
    for name in sys.argv[2:]:
        try:
            tests = unittest.defaultTestLoader.loadTestsFromName(f"test.{name}")
        except unittest.SkipTest as reason:
            LINES.write(json.dumps({"id": name, "outcome": "skipped", "why": str(reason)}) + "\n")
            continue
        run(tests, results, deadline)
    os._exit(0)


def run(tests: unittest.TestSuite, results: Outcomes, deadline: float) -> None:
    """As the suite does it, class by class, until the time is up."""
    for test in tests:
        if isinstance(test, unittest.TestSuite) and any(
            isinstance(t, unittest.TestSuite) for t in test
        ):
            run(test, results, deadline)
        elif time.monotonic() > deadline:
            LINES.write(json.dumps({"id": "", "outcome": "out of time", "why": ""}) + "\n")
            os._exit(0)
        else:
            group = test if isinstance(test, unittest.TestSuite) else unittest.TestSuite([test])
            group.run(results)


if __name__ == "__main__":
    main()
