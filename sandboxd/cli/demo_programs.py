"""The programs of `sandboxd demo` and the answer that is right for each."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sandboxd_client import Result, RunOptions, Status

MiB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    title: str
    language: str
    """Or the image that `command` runs in."""
    source: str = ""
    command: tuple[str, ...] = ()
    stdin: str = ""
    limits: Mapping[str, float] = field(default_factory=dict)
    status: Status = Status.OK
    exit_code: int | None = 0
    signal: str | None = None
    stdout: str | None = None
    """The whole of it, or None: anything."""
    stdout_size: int | None = None
    compile_says: str | None = None
    """Words of the compiler's message."""

    def options(self) -> RunOptions:
        if self.command:
            return RunOptions(image=self.language, command=self.command, limits=self.limits)
        return RunOptions(
            language=self.language, source=self.source, stdin=self.stdin, limits=self.limits
        )

    def faults(self, result: Result) -> list[str]:
        """What is wrong with the answer, in words; empty if it is right."""
        compared: list[tuple[str, object, object]] = [
            ("status", str(result.status), str(self.status)),
            ("exit code", result.exit_code, self.exit_code),
            ("signal", result.signal, self.signal),
        ]
        if self.stdout is not None:
            compared.append(("stdout", result.stdout, self.stdout))
        if self.stdout_size is not None:
            compared.append(("size of stdout", len(result.stdout_bytes), self.stdout_size))
        found = [
            f"{name} is {got!r}, not {wanted!r}" for name, got, wanted in compared if got != wanted
        ]
        if self.compile_says is not None:
            said = result.compile.stderr if result.compile else ""
            if self.compile_says not in said:
                found.append(f"the compiler says {said!r}, without {self.compile_says!r}")
        if not result.isolation:
            found.append("no layer of isolation is named")
        return found


HELLO: dict[str, str] = {
    "python": "print('hello')\n",
    "c": '#include <stdio.h>\nint main(void) { puts("hello"); }\n',
    "cpp": '#include <iostream>\nint main() { std::cout << "hello\\n"; }\n',
    "bash": "echo hello\n",
    "java": (
        "public class Main {\n    public static void main(String[] a) {\n"
        '        System.out.println("hello");\n    }\n}\n'
    ),
    "go": 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("hello") }\n',
    "rust": 'fn main() { println!("hello"); }\n',
    "node": "console.log('hello')\n",
}

COPY: dict[str, str] = {
    "python": "import sys\nsys.stdout.write(sys.stdin.read())\n",
    "c": (
        "#include <stdio.h>\nint main(void) { for (int c; (c = getchar()) != EOF;) putchar(c); }\n"
    ),
    "cpp": "#include <iostream>\nint main() { std::cout << std::cin.rdbuf(); }\n",
    "bash": "cat\n",
    "java": (
        "public class Main {\n    public static void main(String[] a) throws Exception {\n"
        "        System.in.transferTo(System.out);\n        System.out.flush();\n    }\n}\n"
    ),
    "go": (
        'package main\n\nimport (\n\t"io"\n\t"os"\n)\n\n'
        "func main() { io.Copy(os.Stdout, os.Stdin) }\n"
    ),
    "rust": (
        "fn main() -> std::io::Result<()> {\n"
        "    std::io::copy(&mut std::io::stdin(), &mut std::io::stdout())?;\n    Ok(())\n}\n"
    ),
    "node": "process.stdin.pipe(process.stdout)\n",
}

LINES = "one line\nand another\n"

FORK_UNTIL_REFUSED = """\
import errno, os, signal
try:
    while True:
        if os.fork() == 0:
            signal.pause()
except OSError as error:
    print(errno.errorcode[error.errno])
"""

OPEN_UNTIL_REFUSED = """\
import errno, os
try:
    while True:
        os.open("/dev/null", os.O_RDONLY)
except OSError as error:
    print(errno.errorcode[error.errno])
"""

TOUCH_MEMORY = """\
#include <stdlib.h>
#include <string.h>
int main(void) { for (;;) memset(malloc(1 << 20), 1, 1 << 20); }
"""

FILL_DISK = "exec head -c 32M /dev/zero > /tmp/file\n"

FOREIGN_CALL = """\
int main(void) {
    int id;
    __asm__ volatile("int $0x80" : "=a"(id) : "a"(20) : "memory");
    return id == 0;
}
"""

FORK_BOMB = "#include <unistd.h>\nint main(void) { for (;;) fork(); }\n"


def _stopped(title: str, language: str, source: str, status: Status, **limits: float) -> Program:
    return Program(
        title=title,
        language=language,
        source=source,
        limits=limits,
        status=status,
        exit_code=None,
        signal="SIGKILL",
    )


HELLOS = tuple(
    Program(title="hello", language=language, source=source, stdout="hello\n")
    for language, source in HELLO.items()
)
COPIES = tuple(
    Program(title="stdin to stdout", language=language, source=source, stdin=LINES, stdout=LINES)
    for language, source in COPY.items()
)
ENDS = (
    Program(
        title="exit code",
        language="bash",
        source="exit 42\n",
        status=Status.NONZERO_EXIT,
        exit_code=42,
    ),
    Program(
        title="crash",
        language="c",
        source="int main(void) { volatile int *volatile p = 0; return *p; }\n",
        status=Status.SIGNALLED,
        exit_code=None,
        signal="SIGSEGV",
    ),
    Program(
        title="compile error",
        language="c",
        source="int main(void) { return undeclared; }\n",
        status=Status.COMPILE_ERROR,
        exit_code=None,
        stdout="",
        compile_says="undeclared",
    ),
)
LIMITS = (
    _stopped("CPU time", "python", "while True: pass\n", Status.CPU_TIME_EXCEEDED, cpu_time=0.5),
    _stopped("wall time", "bash", "sleep 60\n", Status.WALL_TIME_EXCEEDED, wall_time=0.5),
    _stopped("memory", "c", TOUCH_MEMORY, Status.MEMORY_EXCEEDED, memory=64 * MiB),
    Program(
        title="processes",
        language="python",
        source=FORK_UNTIL_REFUSED,
        limits={"pids": 16},
        stdout="EAGAIN\n",
    ),
    Program(
        title="output",
        language="bash",
        source="yes\n",
        limits={"output": 4096},
        status=Status.OUTPUT_EXCEEDED,
        exit_code=None,
        signal="SIGKILL",
        stdout_size=4096,
    ),
    Program(
        title="disk",
        language="bash",
        source=FILL_DISK,
        limits={"disk": 16 * MiB},
        status=Status.DISK_EXCEEDED,
        exit_code=1,
    ),
    Program(
        title="open files",
        language="python",
        source=OPEN_UNTIL_REFUSED,
        limits={"open_files": 32},
        stdout="EMFILE\n",
    ),
    Program(
        title="forbidden call",
        language="c",
        source=FOREIGN_CALL,
        status=Status.SECURITY_VIOLATION,
        exit_code=None,
        signal="SIGSYS",
    ),
    _stopped(
        "fork bomb", "c", FORK_BOMB, Status.CPU_TIME_EXCEEDED, pids=32, cpu_time=0.5, wall_time=20
    ),
)

PROGRAMS = (*HELLOS, *COPIES, *ENDS, *LIMITS)

IMAGE_PROGRAMS: tuple[Program, ...] = (
    Program(
        title="numpy, pandas",
        language="python",
        command=(
            "python3",
            "-c",
            "import numpy, pandas; print(pandas.Series(numpy.arange(10)).sum())",
        ),
        limits={"memory": 512 * MiB},
        stdout="45\n",
    ),
    Program(
        title="gcc, make",
        language="gcc",
        command=(
            "sh",
            "-c",
            "echo 'int puts(const char *); int main(void) { puts(\"made\"); }' > a.c && "
            "make -s a && ./a",
        ),
        stdout="made\n",
    ),
)
"""In the official images, where `make images` has made them."""
