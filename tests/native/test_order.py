"""An order crosses the border unchanged."""

import errno
import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.native.box import MIB, Workshop, order, run
from tests.native.echo import Echo, names, text

pytestmark = pytest.mark.root

Program = Callable[[str], bytes]


def echoed(
    workshop: Workshop,
    program: bytes,
    args: list[str],
    env: dict[str, str],
    files: list[tuple[str, int, bytes]],
) -> Echo:
    with workshop.sandbox() as native:
        ran = run(
            native,
            ["./echo", *args],
            env,
            [("echo", 0o755, program), *files],
            b"".join(os.fsencode(path) + b"\0" for path, _, _ in files),
        )
    return Echo(ran.out())


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    args=st.lists(text(max_size=50), max_size=12),
    env=st.dictionaries(names, text(max_size=50), max_size=8),
    contents=st.dictionaries(
        names, st.tuples(st.sampled_from([0o600, 0o755, 0o4777]), st.binary())
    ),
)
def test_arguments_environment_and_files_arrive_byte_for_byte(
    workshop: Workshop,
    compiled: Program,
    args: list[str],
    env: dict[str, str],
    contents: dict[str, tuple[int, bytes]],
) -> None:
    files = [(f"d/{name}/{name}", mode, data) for name, (mode, data) in contents.items()]
    echo = echoed(workshop, compiled("echo"), args, env, files)
    assert echo.items() == [b"./echo", *map(os.fsencode, args)]
    assert echo.items() == [os.fsencode(f"{name}={value}") for name, value in env.items()]
    for _, mode, data in files:
        # No set-uid bit passes, and the umask holds.
        assert (echo.number(), echo.item()) == (mode & 0o755, data)
    assert echo.over


def test_thousand_files_and_megabytes_travel_in_a_memory_file(
    workshop: Workshop, compiled: Program
) -> None:
    many = [(f"many/{i:04}", 0o644, str(i).encode()) for i in range(999)]
    files = [*many, ("large", 0o644, os.urandom(2 * MIB))]
    with workshop.sandbox(inodes=2048) as native:
        ran = run(
            native,
            ["./echo"],
            {},
            [("echo", 0o755, compiled("echo")), *files],
            b"".join(os.fsencode(path) + b"\0" for path, _, _ in files),
        )
    echo = Echo(ran.out())
    assert (echo.items(), echo.items()) == ([b"./echo"], [])
    assert all((echo.number(), echo.item()) == (0o644, data) for _, _, data in files)


@pytest.mark.parametrize("size", [131_072 - 200, 131_072, 131_072 + 200])
def test_body_around_the_inline_limit_arrives(
    workshop: Workshop, compiled: Program, size: int
) -> None:
    """The files' bytes tip the body from the message into a memory file; stdin is in both."""
    data = os.urandom(size - len(compiled("echo")) - 60)
    echo = echoed(workshop, compiled("echo"), [], {}, [("data", 0o644, data)])
    assert (echo.items(), echo.items(), echo.number()) == ([b"./echo"], [], 0o644)
    assert echo.item() == data


def test_memory_file_without_stdin_leaves_no_descriptor(workshop: Workshop) -> None:
    with workshop.sandbox() as native:
        ran = run(native, ["/bin/ls", "/proc/self/fd"], {}, [("pad", 0o644, b"x" * 200_000)])
    assert ran.out().split() == [b"0", b"1", b"2", b"3"]  # 3 is the listing itself


def test_name_without_a_slash_is_looked_up_in_the_path_of_the_order(workshop: Workshop) -> None:
    files = [
        ("first/tool", 0o644, b"#!/bin/sh\necho denied\n"),
        ("second/tool", 0o755, b"#!/bin/sh\necho $0\n"),
    ]
    with workshop.sandbox() as native:
        ran = run(native, ["tool"], {"PATH": "/nowhere::/work/first:/work/second:/usr/bin"}, files)
    assert ran.out() == b"/work/second/tool\n"
    with workshop.sandbox() as native:
        ran = run(native, ["tool"], {"PATH": "/nowhere:/work/first"}, files)
    assert ran.failed is not None and ran.failed.errno == errno.EACCES


@pytest.mark.parametrize("cwd", ["/", "/tmp", "/usr/lib", "."])
def test_working_directory_is_the_orders(workshop: Workshop, cwd: str) -> None:
    with workshop.sandbox() as native:
        ran = run(native, ["/bin/pwd", "-P"], cwd=cwd)
    assert ran.out() == (b"/work\n" if cwd == "." else cwd.encode() + b"\n")


def test_string_with_a_nul_never_leaves_python() -> None:
    for bad in (
        order(["a\0b"]),
        order(["a"], {"x": "\0"}),
        order(["a"], files=[("\0", 0, b"")]),
        order(["a"], cwd="/\0"),
    ):
        with pytest.raises(ValueError, match="NUL"):
            bad.body()
