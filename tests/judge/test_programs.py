"""Checkers and interactors of one's own, as jobs in sandboxes: conventions, and what goes wrong."""

import pytest

TESTLIB = r"""
#include <cstdio>
#include <cstdlib>
int main(int argc, char **argv)
{
    FILE *in = fopen(argv[1], "r"), *out = fopen(argv[2], "r"), *ans = fopen(argv[3], "r");
    int n, got, want;
    if (!in || !out || !ans || fscanf(in, "%d", &n) != 1 || fscanf(ans, "%d", &want) != 1) return 3;
    if (fscanf(out, "%d", &got) != 1) { fprintf(stderr, "wrong output format"); return 2; }
    if (got == want) { fprintf(stderr, "ok %d", n); return 0; }
    if (got == want + 1) { fprintf(stderr, "points 0.5 near"); return 7; }
    fprintf(stderr, "wrong answer %d", got);
    return 1;
}
"""


@pytest.mark.parametrize(
    ("output", "verdict", "score", "message"),
    [
        ("4", "AC", 1.0, "ok 3"),
        ("5", "WA", 0.5, "points 0.5 near"),
        ("9", "WA", 0.0, "wrong answer 9"),
        ("x", "PE", 0.0, "wrong output format"),
    ],
)
def test_testlib_checker(judge, output, verdict, score, message):
    result = judge(
        language="python",
        source=f"print('{output}')",
        cases=[{"input": "3\n", "answer": "4\n"}],
        checker={"type": "program", "language": "cpp", "source": TESTLIB},
    )
    [case] = result["cases"]
    assert (case["verdict"], case["score"], case["message"]) == (verdict, score, message)
    assert result["score"] == score


@pytest.mark.parametrize(
    "source",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "import os\nwhile True: os.fork()",
        "import sys\nwhile True: sys.stderr.write('x' * 65536)",
        "while True: print('x' * 65536)",
        "x = bytearray(1 << 31)\nfor i in range(0, len(x), 4096): x[i] = 1",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "raise SystemExit(99)",
        "open('judge/feedback/score.txt', 'w').write('lots'); raise SystemExit(42)",
        "import os; os.symlink('/etc/passwd', 'judge/feedback/score.txt'); raise SystemExit(0)",
        "with open('judge/feedback/judgemessage.txt', 'wb') as f:\n"
        "    while True: f.write(b'x' * 65536)",
    ],
)
def test_a_checker_that_misbehaves_is_an_internal_error(judge, source):
    result = judge(
        language="python",
        source="print(1)",
        cases=[{"answer": "1"}],
        checker={
            "type": "program", "language": "python", "source": source, "convention": "icpc",
            "limits": {"cpu_time": 0.5, "wall_time": 2.0},
        },
    )  # fmt: skip
    assert (result["status"], result["verdict"]) == ("judged", "IE")


def test_a_checker_that_does_not_compile_is_an_internal_error_that_says_so(judge):
    result = judge(
        language="python", source="", cases=[{}],
        checker={"type": "program", "language": "cpp", "source": "int main( {"},
    )  # fmt: skip
    assert result["verdict"] == "IE"
    assert "does not compile" in result["message"]
    assert result["cases"] == []


ECHO_INTERACTOR = """
import os, sys
secret = open(sys.argv[1]).read().strip()
try:
    print(secret, flush=True)
except BrokenPipeError:
    os._exit(1)
line = sys.stdin.readline()
open(sys.argv[2], 'w').write(line)
if not line: sys.exit(1)
sys.exit(0 if line.strip() == secret[::-1] else 1)
"""


def interact(judge, source, interactor=ECHO_INTERACTOR, **fields):
    fields = {"limits": {"cpu_time": 1.0, "wall_time": 2.0}, **fields}
    result = judge(
        language="python", source=source, cases=[{"input": "abc\n"}],
        interactor={"type": "program", "language": "python", "source": interactor,
                    **fields.pop("tool", {})},
        **fields,
    )  # fmt: skip
    assert result["status"] == "judged"
    return result["cases"][0]


@pytest.mark.parametrize("transcript", [False, True])
def test_an_interaction_is_accepted_with_two_accounts(judge, transcript):
    case = interact(judge, "print(input()[::-1], flush=True)", transcript=transcript)
    assert case["verdict"] == "AC"
    assert case["interactor"]["status"] == "ok"
    assert 0 < case["interactor"]["cpu_time"] != case["cpu_time"]
    if transcript:
        assert case["transcript"] == [
            {"by": "interactor", "data": "abc\n"}, {"by": "program", "data": "cba\n"},
        ]  # fmt: skip
    else:
        assert case["transcript"] is None


@pytest.mark.parametrize(
    ("source", "verdict"),
    [
        ("print('wrong', flush=True)", "WA"),
        ("import sys; sys.exit(3)", "RE"),
        ("", "WA"),
        ("while True: pass", "TLE"),
        ("input(); input()", "TLE"),
        ("x = bytearray(1 << 30)\nfor i in range(0, len(x), 4096): x[i] = 1", "MLE"),
    ],
)
@pytest.mark.parametrize("transcript", [False, True])
def test_interaction_that_goes_wrong(judge, source, verdict, transcript):
    case = interact(judge, source, transcript=transcript)
    assert case["verdict"] == verdict, case


@pytest.mark.parametrize(
    ("interactor", "verdict"),
    [
        ("import sys; sys.exit(1)", "WA"),
        ("import sys; sys.exit(3)", "IE"),
        ("import os; os.abort()", "IE"),
        ("while True: pass", "IE"),
    ],
)
def test_an_interactor_that_ends_first_or_fails_decides(judge, interactor, verdict):
    case = interact(
        judge,
        "try:\n    while True: print(input(), flush=True)\nexcept BaseException: pass\n",
        interactor,
        tool={"limits": {"cpu_time": 0.5}},
        limits={"cpu_time": 1.0, "wall_time": 5.0},
    )
    assert case["verdict"] == verdict, case


def test_an_interactor_that_hangs_after_a_good_end_has_failed(judge):
    case = interact(judge, "print(1)", "import time\ntime.sleep(60)")
    assert case["verdict"] == "IE"


def test_an_interactor_that_writes_to_a_program_that_has_left_does_not_fail(judge):
    talker = '#include <unistd.h>\nint main(){for(;;)write(1, "x\\n", 2);}'
    result = judge(
        language="python", source="", cases=[{}],
        interactor={"type": "program", "language": "c", "source": talker},
    )  # fmt: skip
    assert result["verdict"] == "WA"


def test_a_flood_between_the_two_is_bounded_by_time_alone(judge):
    flood = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    swallow = "import sys\nwhile sys.stdin.read(65536): pass\nsys.exit(0)"
    for transcript in (False, True):
        case = interact(judge, flood, swallow, transcript=transcript, tool={})
        assert case["verdict"] == "TLE"


@pytest.mark.parametrize(
    "source",
    [
        '#include "/dev/zero"\nint main(){}',
        'asm(".incbin \\"/etc/shadow\\"");\nint main(){}',
        "template<int N> struct A { A<N+1> x; A<N+1> y; };\nA<0> a;\nint main(){}",
        "constexpr long f(long n) { return n < 2 ? n : f(n-1) + f(n-2); }\n"
        "constexpr long x = f(60);\nint main(){}",
        "int main(){}\n#include __FILE__",
        "#include </etc/passwd>\nint main(){}",
        'asm(".incbin \\"/dev/zero\\"");\nint main(){}',
        "int huge[1 << 29] = {1};\nint main(){}",
    ],
)
def test_sources_that_attack_the_compiler_are_compile_errors(judge, source):
    result = judge(
        language="cpp", source=source, cases=[{}],
        compile_limits={"cpu_time": 3.0, "wall_time": 8.0, "memory": 512 << 20},
    )  # fmt: skip
    assert (result["status"], result["verdict"]) == ("judged", "CE")
    said = result["compile"]["stderr"] + result["compile"]["stdout"]
    with open("/etc/passwd") as passwd:
        assert not any(line.strip() in said for line in passwd), "the host's own was read"


@pytest.mark.parametrize(
    "arguments",
    [
        ["-wrapper", "/bin/sh,-c,cat /etc/shadow /proc/1/environ; exit 1"],
        ["-wrapper", "/bin/sh,-c,while :; do : | : & done"],
        ["-wrapper", "/bin/sh,-c,cat /dev/zero >x"],
        ["-fplugin=/tmp/none.so"],
        ["@/etc/shadow"],
        ["-x", "assembler", "/etc/shadow"],
        ["-o", "/usr/bin/a.out"],
    ],
)
def test_what_runs_while_it_compiles_is_held_like_any_program(judge, arguments):
    """The compiler's arguments are the client's, and may name programs: they run in its sandbox."""
    result = judge(
        language="cpp", source="int main(){}", cases=[{}], compile_args=arguments,
        compile_limits={"cpu_time": 2.0, "wall_time": 6.0, "memory": 256 << 20, "pids": 32},
    )  # fmt: skip
    assert (result["status"], result["verdict"]) == ("judged", "CE")
    said = result["compile"]["stderr"] + result["compile"]["stdout"]
    assert "root:" not in said and "SANDBOXD" not in said and "PATH=" not in said
