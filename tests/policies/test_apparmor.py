"""The shipped AppArmor profile: its parser takes it, and what it must hold stands in it.

That the kernel enforces it is proved in the virtual machine, whose kernel has AppArmor.
"""

import re
import subprocess

import pytest

from sandboxd.policy import load
from sandboxd.settings import Settings

DIRECTORY = Settings().policy_path / "apparmor"
PARSER = Settings().node.apparmor_parser
TEXT = re.sub(r"#.*", "", (DIRECTORY / "sandboxd").read_text())


def _parse(text: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Without loading (`-Q`) and without a cache (`-K`): needs no AppArmor in this kernel."""
    return subprocess.run(
        [PARSER, "-Q", "-K", *options], input=text, capture_output=True, text=True
    )


def test_the_parser_takes_the_profile() -> None:
    parsed = _parse(TEXT)
    assert parsed.returncode == 0, parsed.stderr


def test_the_parser_takes_the_profile_of_builds() -> None:
    text = re.sub(r"#.*", "", (DIRECTORY / "sandboxd-build").read_text())
    parsed = _parse(text, "-N")
    assert (parsed.returncode, parsed.stdout.split()) == (0, ["sandboxd-build"])
    for rule in (
        "mount",
        "pivot_root",
        "ptrace (trace, tracedby)",
        "network alg",
        "/sys/{,**} rwklx",
    ):
        assert f"  deny {rule},\n" in text
    for capability in ("sys_admin", "sys_ptrace", "mknod", "setfcap", "net_admin", "sys_chroot"):
        assert re.search(rf"deny capability [^,]*\b{capability}\b", text)


def test_the_profile_of_sessions_differs_in_what_may_be_written_to() -> None:
    text = re.sub(r"#.*", "", (DIRECTORY / "sandboxd-session").read_text())
    parsed = _parse(text, "-N")
    assert (parsed.returncode, parsed.stdout.split()) == (0, ["sandboxd-session"])
    ours = {line.strip() for line in text.replace("sandboxd-session", "sandboxd").splitlines()}
    theirs = {line.strip() for line in TEXT.splitlines()}
    for line in ours ^ theirs:
        assert re.fullmatch(r"/\S+ (mrwlkix|mrix),", line), line


def test_the_profile_of_sessions_with_a_root_differs_in_its_capabilities() -> None:
    text = re.sub(r"#.*", "", (DIRECTORY / "sandboxd-root").read_text())
    parsed = _parse(text, "-N")
    assert (parsed.returncode, parsed.stdout.split()) == (0, ["sandboxd-root"])
    session = re.sub(r"#.*", "", (DIRECTORY / "sandboxd-session").read_text())
    ours = set(text.replace("sandboxd-root", "sandboxd-session").splitlines())
    *more, fewer = sorted(ours ^ set(session.splitlines()), key=lambda line: line in session)
    assert fewer == "  deny capability,"
    build = (DIRECTORY / "sandboxd-build").read_text()
    assert len(more) == 3 and all("capability" in line and line in build for line in more)


def test_a_broken_profile_would_be_refused() -> None:
    assert _parse(TEXT.replace("deny capability,", "deny capabilities,")).returncode != 0


def test_it_defines_one_profile_that_no_path_attaches() -> None:
    assert _parse(TEXT, "-N").stdout.split() == ["sandboxd"]
    assert re.findall(r"^profile\s+(.*?)\s*flags", TEXT, re.MULTILINE) == ["sandboxd"]


@pytest.mark.parametrize(
    "rule",
    ["capability", "mount", "remount", "umount", "pivot_root", "ptrace (trace, tracedby)",
     "network alg", "network vsock", "network packet", "network rxrpc", "network inet raw",
     "/proc/sys/** wklx", "/sys/{,**} rwklx"],
)  # fmt: skip
def test_it_denies_whatever_else_is_allowed(rule: str) -> None:
    assert f"  deny {rule},\n" in TEXT


def test_nothing_is_confined_by_complaint_only_or_let_out() -> None:
    assert re.search(r"complain|unconfined\)|change_profile|[rwm]*[uUpPcC]x\b", TEXT) is None


def test_every_template_names_a_profile_that_is_shipped() -> None:
    for template in load(DIRECTORY.parent).templates.values():
        assert (DIRECTORY / template.apparmor).is_file()
        assert (DIRECTORY.parent / "seccomp" / f"{template.seccomp}.json").is_file()
