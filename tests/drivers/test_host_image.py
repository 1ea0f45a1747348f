"""The host image: the host's programs, and nothing of its people or secrets."""

import os
from pathlib import Path

import pytest

from sandboxd.drivers.graph import host_image
from sandboxd.drivers.graph.host_image import Image
from sandboxd.errors import DriverFault
from sandboxd.native import Bind


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return host_image.build(tmp_path_factory.mktemp("images"), {})


def test_nothing_of_people_or_secrets_is_in_it(image: Image) -> None:
    assert set(os.listdir(image.lower)) <= {
        "bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "opt", "proc", "sbin", "tmp",
        "usr", "var", "work",
    }  # fmt: skip
    for path in ("/root", "/home", "/etc/shadow", "/etc/ssl/private", "/var/lib", "/run", "/srv"):
        assert not image.has(path), path
    assert "root:x:0:0" in (image.lower / "etc/passwd").read_text()
    assert (image.lower / "etc/hostname").read_text() == "sandbox\n"


def test_every_file_of_the_skeleton_is_public_and_none_is_special(image: Image) -> None:
    for directory, directories, files in os.walk(image.lower):
        for name in (*directories, *files):
            path = Path(directory) / name
            mode = path.lstat().st_mode
            assert path.is_symlink() or path.is_dir() or path.is_file()
            assert path.is_symlink() or mode & 0o6022 == 0, path


def test_files_that_not_everybody_may_read_are_passed_over(tmp_path: Path) -> None:
    source = tmp_path / "etc"
    for name in ("open", "closed"):
        (source / name).mkdir(parents=True)
        (source / name / "public").write_text("p")
        (source / name / "private").write_text("s")
        (source / name / "private").chmod(0o640)
        (source / name / "link").symlink_to("/etc/shadow")
        os.mkfifo(source / name / "pipe")
    (source / "closed").chmod(0o700)
    (source / "set-uid").write_text("x")
    (source / "set-uid").chmod(0o4755)
    host_image._copy_tree(source, tmp_path / "copy")
    copied = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*")}
    # A public file in a private directory is private.
    assert copied == {"open", "open/public", "open/link", "set-uid"}
    assert (tmp_path / "copy/open/link").is_symlink()
    assert (tmp_path / "copy/set-uid").stat().st_mode & 0o7777 == 0o644


def test_image_of_an_earlier_start_is_dropped_and_strangers_stay(tmp_path: Path) -> None:
    first = host_image.build(tmp_path, {})
    (tmp_path / "other").mkdir()
    host_image.clear(tmp_path)
    second = host_image.build(tmp_path, {})
    assert not first.lower.exists() and second.lower.is_dir() and (tmp_path / "other").is_dir()


def test_binds_show_their_real_directory_under_opt(tmp_path: Path) -> None:
    tool = tmp_path / "tool-1.2"
    (tool / "bin").mkdir(parents=True)
    (tool / "bin/run").write_text("")
    (tmp_path / "tool").symlink_to(tool)
    image = host_image.build(tmp_path / "images", {"/opt/tool": str(tmp_path / "tool")})
    assert image.binds == (Bind("/usr", "/usr"), Bind(str(tool), "/opt/tool"))
    assert image.has("/opt/tool/bin/run") and not image.has("/opt/tool/bin/none")


@pytest.mark.parametrize(
    "source",
    ["/", "/root", "/home", "/etc", "/var", "/proc", "/proc/self", "/sys/kernel", "/dev/shm",
     "/run", "/boot", "/nonexistent", "/bin/true", "/usr/..", "/etc/../root"],
)  # fmt: skip
def test_source_that_holds_the_hosts_own_is_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(DriverFault, match="cannot be shown"):
        host_image.build(tmp_path, {"/opt/x": source})


@pytest.mark.parametrize(
    "target",
    ["/opt", "/opt/", "/usr/x", "opt/x", "/opt/../etc", "/opt/x/../../etc", "/opt/a\0", ""],
)
def test_target_outside_opt_is_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(DriverFault, match="not a path under /opt"):
        host_image.build(tmp_path, {target: "/usr/lib"})


def test_has_follows_the_merged_usr_links(image: Image) -> None:
    for path in ("/bin/sh", "/usr/bin/env", "/lib", "/etc/passwd", "/", "/work", "/usr"):
        assert image.has(path), path
    for path in ("/bin/no-such-program", "/usr/bin/env/x", "/nothing"):
        assert not image.has(path), path


def test_has_sees_links_as_the_sandbox_does(tmp_path: Path) -> None:
    lower, usr = tmp_path / "lower", tmp_path / "usr"
    (lower / "etc").mkdir(parents=True)
    (usr / "bin").mkdir(parents=True)
    (usr / "bin/real").write_text("")
    (lower / "etc/choice").symlink_to("/usr/bin/real")
    links = {
        "within": "real",
        "through-etc": "/etc/choice",
        "up": "../../usr/bin/real",
        "above": "../../../../../usr/bin/real",
        # There on the host, absent in the image.
        "outside": str(tmp_path / "usr/bin/real"),
        "host": "/proc/self/exe",
        "loop": "loop",
    }
    for name, target in links.items():
        (usr / "bin" / name).symlink_to(target)
    image = Image(name="host", lower=lower, binds=(Bind(str(usr), "/usr"),))
    seen = {name: image.has(f"/usr/bin/{name}") for name in links}
    assert seen == {
        "within": True, "through-etc": True, "up": True, "above": True,
        "outside": False, "host": False, "loop": False,
    }  # fmt: skip
