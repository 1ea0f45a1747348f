"""Problem packages as the tests write them."""

import io
import zipfile

DIFFERENT = {
    "problem.yaml": "name: Different\nlimits:\n  memory: 256\n",
    "data/sample/1.in": "10 12\n",
    "data/sample/1.ans": "2\n",
    "data/secret/1.in": "71293781758123 72784\n",
    "data/secret/1.ans": "71293781685339\n",
    "data/secret/2.in": "1 12345677654321\n",
    "data/secret/2.ans": "12345677654320\n",
    "submissions/accepted/a.py": "a, b = map(int, input().split())\nprint(abs(a - b))\n",
    "submissions/accepted/b.cpp": "#include <iostream>\nint main(){long long a,b;std::cin>>a>>b;"
    "std::cout<<(a>b?a-b:b-a)<<'\\n';}\n",
    "submissions/wrong_answer/int.c": '#include <stdio.h>\nint main(){int a,b;scanf("%d %d",&a,&b);'
    'printf("%d\\n",a>b?a-b:b-a);}\n',
    "submissions/run_time_error/crash.py": "print(1 / 0)\n",
    "submissions/time_limit_exceeded/slow.c": "int main(){for(volatile int i=0;;)i++;}\n",
    "submissions/accepted/notes.unknown": "?",
}

GUESS_INTERACTOR = """
import sys
feedback = sys.argv[3]
secret = int(open(sys.argv[1]).read())
def end(code, text):
    open(feedback + "judgemessage.txt", "w").write(text)
    sys.exit(code)
for turn in range(10):
    line = sys.stdin.readline()
    if not line:
        end(43, "no guess")
    guess = int(line)
    if guess == secret:
        print("correct", flush=True)
        end(42, f"{turn + 1} guesses")
    print("higher" if guess < secret else "lower", flush=True)
end(43, "too many guesses")
"""

GUESS = {
    "problem.yaml": "name:\n  en: Guess\nproblem_format_version: 2023-07\ntype: interactive\n"
    "limits:\n  time_limit: 1.0\n",
    "output_validator/validate.py": GUESS_INTERACTOR,
    "data/sample/1.in": "42\n",
    "data/sample/1.ans": "",
    "data/secret/1.in": "1\n",
    "data/secret/1.ans": "",
    "data/secret/2.in": "99\n",
    "data/secret/2.ans": "",
    "submissions/accepted/bisect.py": "low, high = 1, 100\nwhile True:\n    m = (low + high) // 2\n"
    "    print(m, flush=True)\n    answer = input()\n    if answer == 'correct': break\n"
    "    if answer == 'higher': low = m + 1\n    else: high = m - 1\n",
    "submissions/wrong_answer/linear.py": "n = 0\nwhile True:\n    n += 1\n    print(n, flush=True)\n"
    "    if input() == 'correct': break\n",
    "submissions/time_limit_exceeded/silent.py": "import time\ntime.sleep(60)\n",
}

SCORED = {
    "problem.yaml": "name: Scored\ntype: scoring\nvalidation: custom\n",
    "output_validators/check.cpp": """
#include <cmath>
#include <fstream>
#include <iostream>
int main(int argc, char **argv)
{
    std::ifstream answer(argv[2]);
    double want, got;
    answer >> want;
    if (!(std::cin >> got) || std::fabs(want - got) > 0.01) return 43;
    return 42;
}
""",
    "data/testdata.yaml": "grader_flags: ignore_sample\non_reject: continue\n",
    "data/secret/testdata.yaml": "on_reject: continue\ngrader_flags: sum\n",
    "data/secret/a/testdata.yaml": "on_reject: break\naccept_score: 40\ngrader_flags: min\n",
    "data/secret/b/testdata.yaml": "on_reject: break\naccept_score: 60\ngrader_flags: min\n",
    "data/sample/1.in": "4\n",
    "data/sample/1.ans": "2\n",
    "data/secret/a/1.in": "9\n",
    "data/secret/a/1.ans": "3\n",
    "data/secret/a/2.in": "16\n",
    "data/secret/a/2.ans": "4\n",
    "data/secret/b/1.in": "1000000\n",
    "data/secret/b/1.ans": "1000\n",
    "data/secret/b/2.in": "2\n",
    "data/secret/b/2.ans": "1.41421356\n",
    "submissions/accepted/root.py": "print(float(input()) ** 0.5)\n",
    "submissions/partially_accepted/whole.py": "print(int(float(input()) ** 0.5))\n",
}


def packed(tree: dict[str, str | bytes], root: str = "") -> bytes:
    """A zip of the files, below `root` if there is one."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in tree.items():
            archive.writestr(root + name, content)
    return out.getvalue()


def encoded(tree: dict[str, str | bytes]) -> dict[str, bytes]:
    return {name: data if isinstance(data, bytes) else data.encode() for name, data in tree.items()}
