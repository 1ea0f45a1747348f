"""Every verdict in C, C++, Python and Java: one program for each language, told by its input what to do.

Java is judged where a node offers it, and reported as skipped where none does: a JDK is too large to be
installed for these tests alone.
"""

import pytest

C = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void) {
    char word[16];
    if (scanf("%15s", word) != 1) return 1;
    if (!strcmp(word, "TLE")) for (volatile long i = 0;; i++) {}
    if (!strcmp(word, "MLE")) for (;;) memset(malloc(1 << 20), 1, 1 << 20);
    if (!strcmp(word, "OLE")) for (;;) puts("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
    if (!strcmp(word, "RE")) abort();
    puts(!strcmp(word, "WA") ? "6 8" : !strcmp(word, "PE") ? "6  7" : "6 7");
    return 0;
}
"""
CPP = r"""
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>
int main() {
    std::string word;
    std::cin >> word;
    if (word == "TLE") for (volatile long i = 0;; i = i + 1) {}
    if (word == "MLE") for (std::vector<std::string> all;;) all.emplace_back(1 << 20, 'x');
    if (word == "OLE") for (;;) std::cout << std::string(65536, 'x');
    if (word == "RE") throw std::runtime_error("no");
    std::cout << (word == "WA" ? "6 8" : word == "PE" ? "6  7" : "6 7") << "\n";
}
"""
PYTHON = r"""
word = input()
while word == "TLE":
    pass
kept = []
while word == "MLE":
    kept.append(b"x" * (1 << 20))
while word == "OLE":
    print("x" * 65536)
print({"WA": "6 8", "PE": "6  7", "RE": ""}.get(word, "6 7"))
assert word != "RE"
"""
JAVA = r"""
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Scanner;
public class Main {
    public static void main(String[] args) {
        String word = new Scanner(System.in).next();
        while (word.equals("TLE")) {}
        if (word.equals("MLE")) {
            // The heap alone is kept below the limit, so that its end would be an exception.
            var kept = new ArrayList<Object>();
            for (int i = 0; i < 120; i++) kept.add(new byte[1 << 20]);
            for (;;) {
                var block = ByteBuffer.allocateDirect(1 << 20);
                for (int at = 0; at < 1 << 20; at += 4096) block.put(at, (byte) 1);
                kept.add(block);
            }
        }
        while (word.equals("OLE")) System.out.println("x".repeat(65536));
        if (word.equals("RE")) throw new RuntimeException();
        System.out.println(word.equals("WA") ? "6 8" : word.equals("PE") ? "6  7" : "6 7");
    }
}
"""
SOURCES = {"c": C, "cpp": CPP, "python": PYTHON, "java": JAVA}
LIMITS = {
    "java": {"cpu_time": 2.0, "wall_time": 30.0, "memory": 288 << 20, "output": 1 << 20},
    "": {"cpu_time": 0.5, "wall_time": 30.0, "memory": 64 << 20, "output": 1 << 20},
}
STATUS = {
    "AC": "ok", "WA": "ok", "PE": "ok", "TLE": "cpu_time_exceeded", "MLE": "memory_exceeded",
    "OLE": "output_exceeded",
}  # fmt: skip


@pytest.fixture(params=SOURCES)
def language(request, api):
    name = request.param
    offered = {x["name"] for x in api.get("/v1/languages").json()["languages"] if x["available"]}
    if name not in offered:
        pytest.skip(f"no node offers {name}")
    return name


def judged(judge, language, word, **fields):
    return judge(
        **{
            "language": language, "source": SOURCES[language], "checker": "exact",
            "cases": [{"input": word, "answer": "6 7\n"}],
            "limits": LIMITS.get(language, LIMITS[""]), **fields,
        }
    )  # fmt: skip


@pytest.mark.parametrize("verdict", ["AC", "WA", "TLE", "MLE", "OLE", "RE", "PE"])
def test_what_a_program_does_is_its_verdict(judge, language, verdict):
    result = judged(judge, language, verdict)
    assert (result["status"], result["verdict"]) == ("judged", verdict)
    [case] = result["cases"]
    assert case["verdict"] == verdict
    assert case["status"] in (STATUS.get(verdict) or ("signalled", "nonzero_exit"))
    assert case["score"] == (1.0 if verdict == "AC" else 0.0)
    assert case["peak_memory"] > 0


def test_what_does_not_compile(judge, language):
    result = judged(judge, language, "AC", source="int main( {")
    # Python finds it when it runs the program.
    assert result["verdict"] == ("RE" if language == "python" else "CE")
    assert bool(result["cases"]) is (language == "python")


def checker(source):
    return {"type": "program", "language": "python", "source": source, "convention": "testlib"}


def test_a_checker_that_fails_is_not_the_programs_fault(judge, language):
    result = judged(judge, language, "AC", checker=checker("raise SystemExit(3)"))
    assert result["verdict"] == "IE"
    assert result["cases"][0]["status"] == "ok"


def test_a_checker_may_give_a_part_of_the_points(judge, language):
    part = checker("import sys\nprint('points 0.25', file=sys.stderr)\nsys.exit(7)")
    result = judged(
        judge, language, "AC", checker=part,
        cases=[{"input": "AC", "answer": "6 7\n", "points": 40}],
    )  # fmt: skip
    assert result["verdict"] == "WA"
    assert (result["score"], result["max_score"]) == (10.0, 40.0)
