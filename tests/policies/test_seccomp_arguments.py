"""The seccomp policy by argument: each rule from both sides, and exhaustively where that is small."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.policies.seccomp_policy import ALLOW, NUMBERS, call

UPPER = st.integers(0, 0xFFFF_FFFF).map(lambda half: half << 32)
"""Bits that the kernel drops from an int argument; a filter must drop them too."""

UNIX, INET, INET6, NETLINK = 1, 2, 10, 16
STREAM, DGRAM, RAW, SEQPACKET = 1, 2, 3, 5
NONBLOCK, CLOEXEC = 0o4000, 0o2000000
FLAGS = (0, NONBLOCK, CLOEXEC, NONBLOCK | CLOEXEC)
TCP, UDP, ROUTE = 6, 17, 0


def _socket_is_allowed(family: int, kind: int, protocol: int) -> bool:
    kind &= ~(NONBLOCK | CLOEXEC)
    if family in (INET, INET6):
        return (kind, protocol) in {(STREAM, 0), (STREAM, TCP), (DGRAM, 0), (DGRAM, UDP)}
    if family == NETLINK:
        return kind in (DGRAM, RAW) and protocol == ROUTE
    return family == UNIX


def _refusal(family: int) -> str:
    return "EPROTONOSUPPORT" if family in (INET, INET6, NETLINK) else "EAFNOSUPPORT"


def test_sockets_are_those_of_the_list_and_no_other() -> None:
    protocols = (0, 1, 2, 6, 12, 17, 33, 58, 132, 136, 255, 256, 262)
    kinds = [kind | flags for kind in range(16) for flags in FLAGS]
    for family, kind, protocol in itertools.product(range(64), kinds, protocols):
        allowed = _socket_is_allowed(family, kind, protocol)
        expected = ALLOW if allowed else _refusal(family)
        assert call("socket", family, kind, protocol) == expected, (family, kind, protocol)


@given(
    st.sampled_from([UNIX, INET, INET6, NETLINK, 17, 21, 31, 38, 40, 44]),
    st.integers(0, 15),
    st.sampled_from([*FLAGS, 0x10, 0x4000_0000]),
    st.integers(0, 300),
    UPPER,
)
def test_neither_type_flags_nor_upper_bits_hide_a_socket(
    family: int, kind: int, flags: int, protocol: int, upper: int
) -> None:
    allowed = _socket_is_allowed(family, kind | flags, protocol)
    answer = call("socket", upper | family, upper | kind | flags, upper | protocol)
    assert (answer == ALLOW) == allowed


def test_socket_pairs_are_unix() -> None:
    answers = {family: call("socketpair", family, STREAM, 0) for family in range(64)}
    assert [family for family, answer in answers.items() if answer == ALLOW] == [UNIX]


CLONE_THREAD = 0x003D_0F00  # what pthread_create asks for
NEW_FLAGS = {
    "mount": 0x0002_0000, "cgroup": 0x0200_0000, "uts": 0x0400_0000, "ipc": 0x0800_0000,
    "user": 0x1000_0000, "pid": 0x2000_0000, "net": 0x4000_0000, "time": 0x80,
}  # fmt: skip


@pytest.mark.parametrize("flags", [17, CLONE_THREAD, 0x4111, 0x0100_0011, 0x0120_0011])
def test_threads_and_children_may_be_made(flags: int) -> None:
    assert call("clone", flags) == ALLOW


@given(st.sampled_from(list(NEW_FLAGS.values())), st.integers(0, 0xFFFF_FFFF), UPPER)
def test_no_flag_beside_it_hides_a_new_namespace(flag: int, others: int, upper: int) -> None:
    assert call("clone", upper | flag | others) == "EPERM"


def test_personality_asks_or_stays_linux() -> None:
    for value in (0, 0xFFFF_FFFF):
        assert call("personality", value) == ALLOW
    for value in (0x8, 0x40000, 0x400000, 0x8000000, 0xFFFF_FFFE):
        assert call("personality", value) == "EPERM"


PRCTL = {
    1, 2, 3, 4, 7, 13, 15, 16, 21, 22, 23, 25, 27, 29, 30, 36, 37, 38, 39, 41, 42, 50, 51, 52,
}  # fmt: skip
SET_VMA, GET_AUXV, SET_PTRACER = 0x53564D41, 0x41555856, 0x59616D61


def test_prctl_options_are_those_of_the_list_and_no_other() -> None:
    for option in range(256):
        assert call("prctl", option) == (ALLOW if option in PRCTL else "EINVAL"), option
    assert call("prctl", GET_AUXV) == ALLOW
    assert call("prctl", SET_PTRACER) == "EINVAL"
    assert call("prctl", SET_VMA, 0) == ALLOW
    assert call("prctl", SET_VMA, 1) == "EINVAL"


@pytest.mark.parametrize("option", [35, 53, 59, 62, 67], ids=str)
@given(upper=UPPER)
def test_dangerous_prctl_options_do_not_hide_in_upper_bits(option: int, upper: int) -> None:
    """SET_MM, SET_SPECULATION_CTRL, SYSCALL_USER_DISPATCH, SCHED_CORE, SET_MEMORY_MERGE."""
    assert call("prctl", upper | option) == "EINVAL"


IOCTL = {
    0x5401, 0x5402, 0x5403, 0x5404, 0x5409, 0x540A, 0x540B, 0x540E, 0x540F, 0x5410, 0x5411,
    0x5413, 0x5414, 0x541B, 0x5421, 0x5422, 0x5429, 0x5441, 0x5450, 0x5451, 0x5452,
    0x8905, 0x8910, 0x8912, 0x8913, 0x8915, 0x8917, 0x8919, 0x891B, 0x891D, 0x8921, 0x8927,
    0x8933, 0x8942,
}  # fmt: skip
IOCTL_SIZED = {
    0x802C542A, 0x402C542B, 0x402C542C, 0x402C542D, 0x80045430, 0x40045431, 0x80045439, 0x80086601,
}  # fmt: skip
TERMINAL_TRICKS = {0x5412: "TIOCSTI", 0x541C: "TIOCLINUX", 0x541D: "TIOCCONS", 0x5423: "TIOCSETD"}
CLONES = {0x40049409: "FICLONE", 0x4020940D: "FICLONERANGE", 0xC0189436: "FIDEDUPERANGE"}


def test_short_ioctls_are_those_of_the_list_and_no_other() -> None:
    for command in range(0x10000):
        refusal = "EPERM" if command in TERMINAL_TRICKS else "ENOTTY"
        assert call("ioctl", 0, command) == (ALLOW if command in IOCTL else refusal), hex(command)


@given(st.integers(0x10000, 0xFFFF_FFFF))
def test_other_ioctls_are_unknown(command: int) -> None:
    if command not in IOCTL_SIZED and command not in CLONES:
        assert call("ioctl", 0, command) == "ENOTTY"


@given(st.sampled_from([*IOCTL, *IOCTL_SIZED, *TERMINAL_TRICKS, *CLONES]), UPPER)
def test_ioctls_are_told_by_their_lower_half(command: int, upper: int) -> None:
    """musl passes them sign-extended; a trick with a high bit set is still a trick."""
    plain = call("ioctl", 0, command)
    assert call("ioctl", 0, upper | command) == plain
    if command in TERMINAL_TRICKS:
        assert plain == "EPERM"
    elif command in CLONES:
        assert plain == "EOPNOTSUPP"
    else:
        assert plain == ALLOW


SOCKET_OPTIONS = {
    1: {2, 5, 6, 7, 8, 9, 10, 12, 13, 15, 16, 18, 20, 21, 29, 35, 40, 42, 63, 64, 66, 67},
    6: {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 18, 23, 25, 30, 36},
    17: {1},
    0: {1, 2, 8, 10, 11, 12, 13, 15, 24, 32, 33, 34, 35, 36},
    41: {16, 17, 18, 19, 20, 21, 23, 25, 26, 49, 51, 62, 66, 67},
    270: {1, 11, 12},
}
FORBIDDEN_OPTIONS = {
    "TCP_ULP": (6, 31), "TCP_MD5SIG": (6, 14), "TCP_REPAIR": (6, 19), "UDP_ENCAP": (17, 100),
    "IP_IPSEC_POLICY": (0, 16), "IP_XFRM_POLICY": (0, 17), "IPT_SO_SET_REPLACE": (0, 64),
    "IPV6_IPSEC_POLICY": (41, 34), "IPV6_XFRM_POLICY": (41, 35), "IP6T_SO_SET_REPLACE": (41, 64),
    "SO_ATTACH_FILTER": (1, 26), "SO_ATTACH_BPF": (1, 50), "SO_ZEROCOPY": (1, 60),
    "TLS_TX": (282, 1), "ALG_SET_KEY": (279, 1), "MCAST_MSFILTER": (0, 48),
}  # fmt: skip


def test_socket_options_are_those_of_the_list_and_no_other() -> None:
    for level, option in itertools.product(range(300), range(130)):
        allowed = option in SOCKET_OPTIONS.get(level, ())
        expected = ALLOW if allowed else "ENOPROTOOPT"
        assert call("setsockopt", 3, level, option) == expected, (level, option)


@given(st.sampled_from(list(FORBIDDEN_OPTIONS.values())), UPPER, UPPER)
def test_forbidden_socket_options_do_not_hide_in_upper_bits(
    option: tuple[int, int], first: int, second: int
) -> None:
    assert call("setsockopt", 3, first | option[0], second | option[1]) == "ENOPROTOOPT"


PRIVATE, REALTIME = 128, 256
WAIT_REQUEUE_PI, CMP_REQUEUE_PI = 11, 12


@given(st.integers(0, 13), st.sampled_from([0, PRIVATE, REALTIME, PRIVATE | REALTIME]), UPPER)
def test_only_the_requeue_pi_futexes_are_refused(operation: int, flags: int, upper: int) -> None:
    refused = operation in (WAIT_REQUEUE_PI, CMP_REQUEUE_PI)
    assert call("futex", 0, upper | operation | flags) == ("EPERM" if refused else ALLOW)


TYPES = {"fifo": 0o010000, "char": 0o020000, "block": 0o060000, "file": 0o100000, "sock": 0o140000}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("mode", [0, 0o644, 0o4755])
def test_nodes_are_made_of_every_type_but_devices(kind: str, mode: int) -> None:
    expected = "EPERM" if kind in ("char", "block") else ALLOW
    assert call("mknodat", 0, 0, TYPES[kind] | mode) == expected
    if "mknod" in NUMBERS:
        assert call("mknod", 0, TYPES[kind] | mode) == expected


def test_a_filter_inside_may_not_supervise_or_lift_a_mitigation() -> None:
    for flags in (0, 1, 2, 16):
        assert call("seccomp", 1, flags) == ALLOW
    for flags in (4, 8, 8 | 32, 4 | 1):
        assert call("seccomp", 1, flags) == "EINVAL"


@pytest.mark.parametrize(("name", "index"), [("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)])
@given(flags=st.integers(0, 0xFFFF_FFFF))
def test_out_of_band_data_is_not_sent(name: str, index: int, flags: int) -> None:
    arguments = [0] * 6
    arguments[index] = flags
    assert call(name, *arguments) == ("EOPNOTSUPP" if flags & 1 else ALLOW)


def test_shared_memory_gives_no_hints_to_neighbours() -> None:
    """KSM, eviction of shared page cache, and the question whether a page is cached."""
    for advice in range(32):
        assert call("madvise", 0, 0, advice) == ("EINVAL" if advice == 12 else ALLOW)
    for advice in range(8):
        assert call("fadvise64", 3, 0, 0, advice) == ("success" if advice == 4 else ALLOW)
    for flags in range(32):
        expected = "EOPNOTSUPP" if flags & 8 else ALLOW
        assert call("preadv2", 3, 0, 1, 0, 0, flags) == expected


def test_sync_reports_success_without_flushing_the_host() -> None:
    assert call("sync") == "success"


@given(st.integers(1, 0xFFFF_FFFF), st.integers(1, (1 << 64) - 1), UPPER)
def test_limits_of_another_are_asked_for_and_not_set(pid: int, new: int, upper: int) -> None:
    assert call("prlimit64", upper | pid, 7, new, 0) == "EPERM"
    assert call("prlimit64", upper | pid, 7, 0, new) == ALLOW
    assert call("prlimit64", upper, 7, new, 0) == ALLOW
