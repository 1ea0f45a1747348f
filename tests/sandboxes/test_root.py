"""A sandbox's root: sudo and su as people write them, and whose a file is, there and in what is made of
it."""

import signal
import time

import pytest

from tests.sandboxes.conftest import Box, Tenant

pytestmark = [pytest.mark.root, pytest.mark.service]


@pytest.mark.parametrize(("script", "said"), [
    ("id -u; id -un; sudo id -u; sudo -n id -un", "1000 user 0 root"),
    ("sudo -u user id -un; sudo -u nobody id -u; sudo -u '#5' id -u; sudo -g nogroup id -g",
     "user 65534 5 65534"),
    ("sudo sh -c 'echo $HOME $USER $LOGNAME $SUDO_USER $SUDO_UID'", "/root root root user 1000"),
    ("A=1 sudo sh -c 'echo a$A'; A=1 sudo -E sh -c 'echo a$A'; sudo A=2 sh -c 'echo a$A'", "a a1 a2"),
    ("A=1 B=2 sudo --preserve-env=A sh -c 'echo $A$B'", "1"),
    ("sudo -E sh -c 'echo $HOME'; sudo -EH sh -c 'echo $HOME'", "/work /root"),
    ("cd /tmp; sudo pwd; sudo -D / pwd; sudo -i pwd; sudo -iu user pwd", "/tmp / /root /home/user"),
    ("sudo -i echo 'a b' '$HOME;c'; sudo -s echo '*'", "a b /root;c *"),
    ("echo in | sudo cat; sudo sh -c 'exit 7'; echo $?; sudo nonesuch 2>&1; echo $?",
     "in 7 sudo: nonesuch: not found 127"),
    ("sudo sh -c 'kill -9 $$'; echo $?; sudo sh -c umask; (umask 077; sudo sh -c umask)",
     "137 0022 0077"),
    ("su -c 'id -u; pwd'; su - -c pwd; su user -c 'id -un'; sudo su -s /bin/sh nobody -c 'id -u'",
     "0 /work /root user 65534"),
    ("sudo -u eve id 2>&1; sudo -u nobody sudo id 2>&1; sudo -v; echo $?",
     "sudo: eve: not found sudo: only root and the sandbox's user may: Operation not permitted 0"),
    ("env -i sh -c '/opt/sandboxd/bin/sudo id -u'; type sudo", "0 sudo is /opt/sandboxd/bin/sudo"),
    ("sudo useradd -m -s /bin/sh eve && sudo -iu eve sh -c 'id -un; pwd; touch f'; "
     "stat -c %U /home/eve/f",
     "eve /home/eve eve"),
])  # fmt: skip
def test_what_people_write(box: Box, script: str, said: str) -> None:
    result = box.run("sh", "-c", script)
    assert result["stdout"].split() == said.split(), result


def test_the_api_starts_processes_of_both(box: Box) -> None:
    script = "id -u; echo $HOME $USER; grep -E 'Cap(Prm|Bnd)' /proc/self/status | cut -c9-"
    assert box.sh(script, user="root").split() == ["0", "/root", "root", *["00000000000000fb"] * 2]
    assert box.sh(script).split() == ["1000", "/work", "sandbox", *["0" * 16] * 2]


def test_files_of_root_are_not_its_users(box: Box) -> None:
    box.sh(
        "mkdir -m 700 /opt/kept; echo x > /opt/kept/f; echo x > /etc/mine; ls /root", user="root"
    )
    assert box.run("cat", "/opt/kept/f")["process"]["exit_code"] == 1
    assert box.run("sh", "-c", "echo y > /etc/mine")["process"]["exit_code"] == 2
    assert box.run("sudo", "cat", "/etc/mine", "/opt/kept/f")["stdout"] == "x\nx\n"
    assert box.run("sudo", "touch", "/usr/x")["process"]["exit_code"] == 1, "the host's directories"


def test_processes_of_root_are_not_its_users(box: Box) -> None:
    name = box.start("sleep", "60", user="root")
    pid = box.ok("GET", f"/processes/{name}")["pid"]
    assert box.run("kill", "-9", str(pid))["process"]["exit_code"] == 1
    assert box.run("sudo", "kill", "-9", str(pid))["process"]["exit_code"] == 0
    assert ended(box, name)["signal"] == "SIGKILL"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_sudo_ends_what_it_runs(box: Box, number: signal.Signals) -> None:
    """SIGTERM is handed on; the end of sudo is the end of its command."""
    name = box.start("sudo", "sh", "-c", "echo $$ > /tmp/pid; exec sleep 60")
    pid = box.sh(
        "while ! [ -s /tmp/pid ]; do sleep 0.05; done; cat /tmp/pid; sudo rm /tmp/pid"
    ).strip()
    box.ok("POST", f"/processes/{name}/signal", json={"signal": int(number)})
    assert ended(box, name)["signal"] == number.name
    box.sh(f"while sudo kill -0 {pid} 2>/dev/null; do sleep 0.05; done")


def ended(box: Box, name: str) -> dict[str, object]:
    while (process := box.ok("GET", f"/processes/{name}"))["state"] == "running":
        time.sleep(0.05)
    return dict(process)


def test_a_terminal_is_roots_under_sudo(box: Box) -> None:
    with box.exec_socket("sudo", "bash", pty={"rows": 30, "cols": 100}) as stream:
        stream.until(b"#")
        stream.say(b"stty size; echo u$(id -u); jobs; sh -c 'touch /tmp/up; sleep 60'\n")
        stream.until(b"u0")
        assert b"30 100" in stream.stdout and b"job control" not in stream.stdout
        box.sh("while ! [ -e /tmp/up ]; do sleep 0.05; done")
        stream.say(b"\x03")
        stream.say(b"echo c=$?\n")
        stream.until(b"c=130")
        stream.say(b"exit 5\n")
        assert stream.to_end()["process"]["exit_code"] == 5


@pytest.fixture
def two_owners(fresh: Box) -> Box:
    fresh.sh("mkdir -p /srv/two; cd /srv/two; echo r > r; chmod 600 r; echo n > n; chown 5:6 n; "
             "cp -p r s; chmod 4755 s; touch u; chown 1000:1000 u", user="root")  # fmt: skip
    return fresh


OWNERS = ["r", "0:0", "600", "n", "5:6", "644", "s", "0:0", "755", "u", "1000:1000", "644"]


def owners(box: Box) -> list[str]:
    return box.sh("cd /srv/two; stat -c '%n %u:%g %a' r n s u").split()


def test_owners_are_kept_by_forks(two_owners: Box, ann: Tenant) -> None:
    (made,) = two_owners.ok("POST", "/fork", json={"count": 1})["sandboxes"]
    child = ann.box(made["id"])
    assert owners(child) == OWNERS
    assert child.run("cat", "/srv/two/r")["process"]["exit_code"] == 1
    assert child.sh("sudo cat /srv/two/r") == "r\n"
    assert (
        child.sh("echo z >> /srv/two/n; cat /srv/two/n; ls -ld /etc | cut -d' ' -f3", user="root")
        == "n\nz\nroot\n"
    )
    child.kill()


def test_an_untouched_sandbox_is_its_image(fresh: Box, ann: Tenant) -> None:
    image = fresh.ok("POST", "/snapshot", json={"name": "empty"})["image"]
    child = ann.create(image=image)
    assert child.ok("POST", "/snapshot", json={"name": "same"})["image"] == image
    child.kill()
