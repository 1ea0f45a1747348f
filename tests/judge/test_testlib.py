"""Checkers and interactors that use testlib.h itself."""

from importlib.util import find_spec
from pathlib import Path

import pytest

CHECKER = r"""
#include "testlib.h"
int main(int argc, char *argv[]) {
    registerTestlibCmd(argc, argv);
    int limit = inf.readInt(), expected = ans.readInt();
    int found = ouf.readInt(0, limit, "found");
    if (found == expected) quitf(_ok, "%d", found);
    if (found == expected + 1) quitp(0.25, "near");
    if (found == expected + 2) quitf(_pe, "said so");
    if (found == expected + 3) quitf(_fail, "the checker's fault");
    quitf(_wa, "expected %d, found %d", expected, found);
}
"""
INTERACTOR = r"""
#include "testlib.h"
int main(int argc, char *argv[]) {
    registerInteraction(argc, argv);
    int secret = inf.readInt();
    for (int tries = 1; tries <= 8; tries++) {
        int guess = ouf.readInt(1, 100, "guess");
        std::cout << (guess < secret ? "more" : guess > secret ? "less" : "yes") << std::endl;
        if (guess == secret) {
            tout << tries << std::endl;
            quitf(_ok, "found in %d", tries);
        }
    }
    quitf(_wa, "too many guesses");
}
"""
BINARY = """
low, high = 1, 100
while True:
    middle = (low + high) // 2
    print(middle, flush=True)
    said = input()
    if said == "yes":
        break
    low, high = (middle + 1, high) if said == "more" else (low, middle - 1)
"""


@pytest.fixture(scope="module")
def testlib():
    """The header's text, out of a package that carries it and is not imported."""
    package = find_spec("rbx")
    assert package is not None and package.submodule_search_locations
    [directory] = package.submodule_search_locations
    return (Path(directory) / "resources" / "predownloaded" / "testlib.h").read_text()


def program(source, testlib):
    return {
        "type": "program", "language": "cpp", "source": source, "convention": "testlib",
        "files": {"testlib.h": {"text": testlib}},
    }  # fmt: skip


def test_a_checker_with_testlib_says_everything_that_it_can(judge, testlib):
    outputs = ["5", " 5 \n\n", "6", "7", "8", "9", "x", "", "5 5", "100"]
    result = judge(
        language="bash", source='printf %s "$1"', checker=program(CHECKER, testlib),
        cases=[{"input": "50", "args": [said], "answer": "5"} for said in outputs],
    )  # fmt: skip
    assert [case["verdict"] for case in result["cases"]] == [
        "AC", "AC", "WA", "PE", "IE", "WA", "PE", "PE", "PE", "WA",
    ]  # fmt: skip
    assert [case["score"] for case in result["cases"]][:3] == [1.0, 1.0, 0.25]
    assert "expected 5, found 9" in result["cases"][5]["message"]


def test_an_interactor_with_testlib(judge, testlib):
    secrets = [{"input": str(n)} for n in (1, 50, 100)]
    interactor = program(INTERACTOR, testlib)
    found = judge(language="python", source=BINARY, interactor=interactor, cases=secrets)
    assert found["verdict"] == "AC", found
    slow = "while print(1, flush=True) or input() != 'yes': pass"
    found = judge(language="python", source=slow, interactor=interactor, cases=secrets)
    assert [case["verdict"] for case in found["cases"]] == ["AC", "WA", "WA"]
    babble = "print('words', flush=True)\ninput()"
    found = judge(language="python", source=babble, interactor=interactor, cases=secrets[:1])
    assert found["cases"][0]["verdict"] == "PE"
