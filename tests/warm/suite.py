"""Runs one module of CPython's own tests and prints each test's outcome. A job's main.py."""

import io
import json
import os
import sys
import unittest


class Outcomes(unittest.TestResult):
    """Outcome by test, subtests joined: a later failure is not hidden by an earlier success."""

    def __init__(self):
        super().__init__()
        self.of = {}

    def _note(self, test, outcome):
        name = test.id() if not hasattr(test, "test_case") else test.test_case.id()
        if self.of.get(name) in (None, "ok"):
            self.of[name] = outcome

    def addSuccess(self, test):
        self._note(test, "ok")

    def addError(self, test, err):
        self._note(test, f"error {err[0].__name__}")

    def addFailure(self, test, err):
        self._note(test, "failure")

    def addSkip(self, test, reason):
        self._note(test, f"skipped: {reason}")

    def addExpectedFailure(self, test, err):
        self._note(test, "expected failure")

    def addUnexpectedSuccess(self, test):
        self._note(test, "unexpected success")

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self._note(test, f"subtest {err[0].__name__}")


def main():
    answer = os.fdopen(os.dup(1), "w")
    outcomes = Outcomes()
    sys.stdout = io.TextIOWrapper(io.FileIO(os.open(os.devnull, os.O_WRONLY), "w"))
    suite = unittest.defaultTestLoader.loadTestsFromName(f"test.{sys.argv[1]}")
    suite.run(outcomes)
    json.dump(outcomes.of, answer)
    answer.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
