"""OCI seccomp policies as hypothesis makes them: well-formed, odd, and broken in one place."""

import json

from hypothesis import strategies as st

ARCHITECTURES = ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"]
COMPARISONS = [
    "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
]  # fmt: skip
edges = st.sampled_from(
    [
        0,
        1,
        2,
        255,
        0x7FFF_FFFF,
        0x8000_0000,
        0xFFFF_FFFF,
        1 << 32,
        (1 << 63) - 1,
        1 << 63,
        (1 << 64) - 1,
    ]
)
words = edges | st.integers(0, (1 << 64) - 1)

# No call that could do harm is ever let through by what is made here: see differential.py.
NAMES = [
    "read", "write", "close", "socket", "mmap", "ioctl", "fcntl", "prctl", "lseek", "kill", "openat",
    "getpriority", "dup3", "madvise", "futex", "personality", "umask", "sched_yield",
]  # fmt: skip

conditions = st.builds(
    lambda index, op, value, two: {"index": index, "op": op, "value": value, "valueTwo": two},
    st.integers(0, 5), st.sampled_from(COMPARISONS), words, words,
)  # fmt: skip


def errno_rule(number: int) -> st.SearchStrategy[dict[str, object]]:
    """A rule that answers `number`, with at most two conditions on different arguments."""
    arguments = st.lists(conditions, max_size=2, unique_by=lambda condition: condition["index"])
    return st.builds(
        lambda names, args: {
            "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": number, "args": args,
        },
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True), arguments,
    )  # fmt: skip


@st.composite
def policies(draw: st.DrawFn) -> dict[str, object]:
    """A policy under which no call reaches the kernel; each rule answers another errno."""
    count = draw(st.integers(0, 12))
    rules = [draw(errno_rule(1_000 + number)) for number in range(count)]
    if draw(st.booleans()):
        names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True)
        rules.append({"names": draw(names), "action": "SCMP_ACT_KILL_PROCESS"})
    return {
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 999, "architectures": ARCHITECTURES,
        "syscalls": rules,
    }  # fmt: skip


_odd = (
    st.none()
    | st.booleans()
    | st.sampled_from([-1, 6, 7, 1 << 32, 1 << 64, -(1 << 63), 1 << 200, 1.5, 1e400])
    | st.sampled_from(
        ["", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_CMP_X", "read\0write", "é", "x" * 9000]
    )
    | st.lists(st.sampled_from(["read", "", "read\0", "no_such_call"]), max_size=3)
    | st.just({})
)


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A policy with one value anywhere replaced, removed or doubled, as JSON."""
    document = json.loads(json.dumps(draw(policies())))
    at: object = document
    for _ in range(draw(st.integers(1, 6))):
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))  # type: ignore[arg-type]
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        child = at[key]  # type: ignore[index]
        if isinstance(child, dict | list) and child and draw(st.booleans()):
            at = child
            continue
        if draw(st.booleans()):
            at[key] = draw(_odd)  # type: ignore[index]
        else:
            del at[key]  # type: ignore[attr-defined]
        break
    return json.dumps(document).encode()
