"""Compilers and every language the node may offer."""

from typing import Any

from tests.matrix.case import Case, Expect, c
from tests.matrix.expectation import exits, killed, ok

ECHO: dict[str, str] = {
    "c": (
        "#include <stdio.h>\nint main(void) {\n    char s[80];\n"
        '    scanf("%79s", s);\n    printf("hi %s\\n", s);\n}\n'
    ),
    "cpp": (
        "#include <iostream>\n#include <string>\n"
        'int main() { std::string s; std::cin >> s; std::cout << "hi " << s << "\\n"; }\n'
    ),
    "python": "print('hi', input())\n",
    "bash": 'read -r name\necho "hi $name"\n',
    "java": (
        "import java.util.Scanner;\npublic class Main {\n"
        "    public static void main(String[] a) {\n"
        '        System.out.println("hi " + new Scanner(System.in).next());\n    }\n}\n'
    ),
    "go": (
        'package main\n\nimport "fmt"\n\nfunc main() {\n\tvar s string\n'
        '\tfmt.Scan(&s)\n\tfmt.Println("hi", s)\n}\n'
    ),
    "rust": (
        "use std::io::stdin;\nfn main() {\n    let mut s = String::new();\n"
        '    stdin().read_line(&mut s).unwrap();\n    println!("hi {}", s.trim());\n}\n'
    ),
    "node": (
        "const lines = require('fs').readFileSync(0, 'utf8').split('\\n');\n"
        "console.log('hi', lines[0]);\n"
    ),
}

BROKEN: dict[str, str] = {
    "c": "int main(void) { return undeclared; }\n",
    "cpp": "int main() { return undeclared; }\n",
    "java": "public class Main { int x = undeclared; }\n",
    # A syntax error, which Go finds before it compiles its whole runtime.
    "go": "package main\n\nfunc main() { undeclared(\n",
    "rust": "fn main() { undeclared(); }\n",
}

WARNING = '#warning "mind this"\nint main(void) { return 0; }\n'

MACRO_BOMB = (
    "#define A0 ;;;;;;;;\n"
    + "".join(f"#define A{i} A{i - 1} A{i - 1} A{i - 1} A{i - 1}\n" for i in range(1, 21))
    + "int main(void) { A20 }\n"
)
"""Eight times four to the twentieth empty statements: time without end in little memory."""


def _table(depth: int) -> str:
    """An array of 8 * 4 ** depth numbers, spelt in macros."""
    macros = (f"#define A{i} A{i - 1} A{i - 1} A{i - 1} A{i - 1}\n" for i in range(1, depth + 1))
    return (
        "#define A0 1,1,1,1,1,1,1,1,\n"
        + "".join(macros)
        + f"int a[] = {{ A{depth} }};\nint main(void) {{ return 0; }}\n"
    )


ERROR_FLOOD = "".join(f"int f{i}(void) {{ return undeclared{i}; }}\n" for i in range(400))

HUGE_OBJECT = "char a[1L << 34] = {1};\nint main(void) { return 0; }\n"

INCLUDE_SECRET = '#include "/etc/shadow"\nint main(void) { return 0; }\n'
INCBIN_SECRET = '__asm__(".incbin \\"/etc/shadow\\"");\nint main(void) { return 0; }\n'


def refused(**more: Any) -> Expect:
    """The compiler gave an answer of its own: no."""
    return Expect(
        status="compile_error",
        exit_code=None,
        signal=None,
        stdout=b"",
        stderr=b"",
        compile=exits(1, **more),
    )


def stopped(compiler: Expect) -> Expect:
    """The compiler met a limit."""
    return Expect(status="compile_error", stdout=b"", compile=compiler)


CASES = (
    *[
        Case(
            f"hello-{language}",
            f"{language}: stdin to stdout",
            {"language": language, "source": source, "stdin": "world\n"},
            ok(stdout=b"hi world\n", stderr=b""),
        )
        for language, source in ECHO.items()
    ],
    *[
        Case(
            f"compile-error-{language}",
            f"{language}: a program that does not compile is a compile_error, said apart",
            {"language": language, "source": source},
            refused() if language in ("c", "cpp") else Expect(status="compile_error", stdout=b""),
        )
        for language, source in BROKEN.items()
    ],
    Case(
        "compile-error-message",
        "the compiler's words are in compile.stderr",
        c(BROKEN["c"]),
        refused(stderr_has=(b"main.c:1", b"undeclared")),
    ),
    Case(
        "compile-warning",
        "a warning is kept and the program runs",
        c(WARNING),
        ok(stderr=b"", compile=ok(stderr_has=(b"mind this",))),
    ),
    Case(
        "compile-args",
        "compile_args reach the compiler",
        c("int main(void) { return N; }\n", compile_args=["-DN=7"]),
        exits(7, compile=ok()),
    ),
    Case(
        "compile-args-werror",
        "compile_args may make the compiler stricter",
        c(WARNING, compile_args=["-Werror"]),
        refused(stderr_has=(b"mind this",)),
    ),
    Case(
        "compile-cpu-bomb",
        "a compiler that works without end is stopped at its CPU limit",
        c(MACRO_BOMB, compile_limits={"cpu_time": 1, "wall_time": 20}),
        stopped(killed("cpu_time_exceeded", cpu_time=(1, 1.5))),
    ),
    Case(
        "compile-wall-bomb",
        "a compiler that takes too long is stopped at its wall limit",
        c(MACRO_BOMB, compile_limits={"cpu_time": 20, "wall_time": 1}),
        stopped(killed("wall_time_exceeded")),
    ),
    Case(
        "compile-memory-bomb",
        "a compiler that grows without end is stopped at its memory limit",
        c(_table(20), compile_limits={"memory": 128 << 20, "cpu_time": 20}),
        stopped(Expect(status="memory_exceeded")),
    ),
    Case(
        "compile-disk-bomb",
        "an executable of 16 GiB does not fit the compiler's disk",
        c(HUGE_OBJECT, compile_limits={"disk": 32 << 20, "cpu_time": 20}),
        Expect(status="compile_error", stdout=b""),
    ),
    Case(
        "compile-output-flood",
        "a flood of messages ends at the compiler's output limit",
        c(ERROR_FLOOD, compile_limits={"output": 4096}),
        stopped(Expect(status="output_exceeded", stderr_len=4096, stderr_truncated=True)),
    ),
    Case(
        "compile-include-secret",
        "a compiler cannot read what the program could not",
        c(INCLUDE_SECRET),
        refused(stderr_has=(b"/etc/shadow",)),
    ),
    Case(
        "compile-incbin-secret",
        "an assembler cannot read what the program could not",
        c(INCBIN_SECRET),
        refused(stderr_has=(b"/etc/shadow",)),
    ),
    Case(
        "compile-limits-are-apart",
        "the compiler's memory is not the program's",
        c(_table(8), limits={"memory": 16 << 20}),
        ok(compile=ok(peak_memory=(16 << 20, 1 << 30)), peak_memory=(0, 16 << 20)),
    ),
)
