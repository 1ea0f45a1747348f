"""Files brought back: regular files of the program's own, and nothing else."""

from tests.matrix.case import Case, bash, python
from tests.matrix.expectation import MiB, exits, ok, over_wall

REFUSED = ("not_regular", "denied")

CASES = (
    Case(
        "collect-file",
        "a file comes back byte for byte",
        bash("printf 'made here' > out.txt\n", collect=["out.txt"]),
        ok(files={"out.txt": b"made here"}),
    ),
    Case(
        "collect-several",
        "binary, empty and nested files come back",
        python(
            "import os\nos.makedirs('a/b')\n"
            "open('a/b/ü.bin', 'wb').write(bytes(range(256)))\nopen('empty', 'w')\n",
            collect=["a/b/ü.bin", "empty"],
        ),
        ok(files={"a/b/ü.bin": bytes(range(256)), "empty": b""}),
    ),
    Case(
        "collect-after-failure",
        "files come back though the program failed",
        bash("echo partial > out.txt\nexit 9\n", collect=["out.txt"]),
        exits(9, files={"out.txt": b"partial\n"}),
    ),
    Case(
        "collect-after-a-limit",
        "files come back though the program was stopped",
        bash(
            "echo partial > out.txt\nsleep 60\n",
            collect=["out.txt"],
            limits={"wall_time": 0.6},
        ),
        over_wall(0.6, files={"out.txt": b"partial\n"}),
    ),
    Case(
        "collect-missing",
        "a file that is not there is said to be missing, the others come",
        bash("echo x > there\n", collect=["there", "absent", "no/such/place"]),
        ok(
            files={"there": b"x\n"},
            file_errors={"absent": ("not_found",), "no/such/place": ("not_found",)},
        ),
    ),
    Case(
        "collect-symlink",
        "a symbolic link is not followed",
        bash("ln -s /etc/passwd out\nln -s there here\necho x > there\n", collect=["out", "here"]),
        ok(file_errors={"out": REFUSED, "here": REFUSED}),
    ),
    Case(
        "collect-through-symlink",
        "a directory that is a symbolic link is not walked",
        bash("ln -s /etc out\nln -s / root\n", collect=["out/passwd", "root/etc/passwd"]),
        ok(file_errors={"out/passwd": REFUSED, "root/etc/passwd": REFUSED}),
    ),
    Case(
        "collect-hard-link-to-host",
        "what cannot be linked cannot be brought back",
        bash("ln /etc/passwd out 2>/dev/null\nexit 0\n", collect=["out"]),
        ok(file_errors={"out": ("not_found",)}),
    ),
    Case(
        "collect-fifo",
        "a named pipe is refused, not waited for",
        bash("mkfifo out\n", collect=["out"]),
        ok(file_errors={"out": REFUSED}),
    ),
    Case(
        "collect-directory",
        "a directory is no file",
        bash("mkdir out\n", collect=["out"]),
        ok(file_errors={"out": REFUSED}),
    ),
    Case(
        "collect-socket",
        "a socket is refused",
        python("import socket\nsocket.socket(socket.AF_UNIX).bind('out')\n", collect=["out"]),
        ok(file_errors={"out": REFUSED}),
    ),
    Case(
        "collect-sparse",
        "a sparse file counts with its length, whatever it weighs",
        bash("truncate -s 60M out\n", collect=["out"]),
        ok(file_errors={"out": ("too_large",)}),
    ),
    Case(
        "collect-too-large",
        "a file above the operator's maximum is too large, a small one beside it comes",
        bash("head -c 17M /dev/zero > large\necho x > small\n", collect=["large", "small"]),
        ok(files={"small": b"x\n"}, file_errors={"large": ("too_large",)}),
    ),
    Case(
        "collect-large",
        "eight mebibytes come back",
        bash("head -c 8M /dev/zero > out\n", collect=["out"]),
        ok(files={"out": bytes(8 * MiB)}),
    ),
)
