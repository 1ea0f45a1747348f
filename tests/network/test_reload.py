"""Policies' files that an operator edits under a running service."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandboxd_client import Client, RequestError, Sandbox

from tests.network.serving import hang_up, run, serving
from tests.network.test_runs import ASK
from tests.network.test_sandboxes import reached
from tests.network.world import OTHER4, PUBLIC4, World
from tests.patience import PATIENCE
from tests.service.instance import Service

pytestmark = [pytest.mark.root, pytest.mark.service]


def rule(address: str) -> str:
    return f'[[allow]]\ncidr = "{address}"\nports = [8080]\n'


_ONE, _OTHER, _BOTH = rule(PUBLIC4), rule(OTHER4), rule(PUBLIC4) + rule(OTHER4)
_KEPT = """
import socket, sys
with socket.create_connection((sys.argv[1], 8080), 2) as line:
    for word in ("first", "second"):
        try:
            line.sendall(word.encode())
            print(line.recv(100).decode(), flush=True)
        except OSError as error:
            print("cut")
        sys.stdin.readline()
"""


class Edited:
    """The files of a service, and how to have it read them again."""

    def __init__(self, service: Service) -> None:
        self.service = service
        setting = next(word for word in service.argv if word.startswith("policies="))
        self.directory = Path(setting.removeprefix("policies=")) / "egress"

    def write(self, name: str, text: str) -> None:
        (self.directory / f"{name}.toml").write_text(f'name = "{name}"\n{text}')

    def remove(self, name: str) -> None:
        (self.directory / f"{name}.toml").unlink()

    def reload(self) -> str:
        """What node and gateway say to it."""
        return hang_up(self.service, "network policies", 2)


@pytest.fixture
def edited(world: World) -> Iterator[Edited]:
    egress = {"changing": _BOTH, "steady": _BOTH, "going": _ONE}
    with serving(egress, "network.firewall=nftables") as service:
        yield Edited(service)


@pytest.fixture
def client(edited: Edited) -> Iterator[Client]:
    with Client(edited.service.url) as client:
        yield client


def until(sandbox: Sandbox, wanted: list[bool]) -> None:
    """The log tells that the files are read, a moment before the last sandbox follows."""
    deadline = time.monotonic() + 10 * PATIENCE
    while (found := reached(sandbox)) != wanted:
        assert time.monotonic() < deadline, found


def test_living_sandboxes_follow_the_files_and_what_is_gone_is_refused(
    edited: Edited, client: Client
) -> None:
    part = {"policy": "changing", "allow": [{"cidr": address} for address in (PUBLIC4, OTHER4)]}
    for each in part["allow"]:
        each["ports"] = [8080]  # type: ignore[index]
    boxes = [
        Sandbox.create(client=client, network=network) for network in ("changing", part, "going")
    ]
    whole, narrow, going = boxes
    try:
        assert [reached(box) for box in boxes] == [[True, True], [True, True], [True, False]]
        edited.write("changing", _OTHER)
        edited.write("fresh", _OTHER)
        edited.remove("going")
        said = edited.reload()
        assert "changed changing; new fresh; removed going" in said, said
        until(whole, [False, True])
        until(narrow, [False, True])  # of what it asked for, that which is left
        until(going, [True, False])  # what runs stays as it was
        for name, status in (("going", 422), ("fresh", 200)):
            assert run(edited.service, "", network=name)["http"] == status
        with pytest.raises(RequestError):
            whole.update(network="going")
        with pytest.raises(RequestError):
            going.fork()
        edited.write("changing", _BOTH)
        edited.reload()
        until(whole, [True, True])
        until(narrow, [True, True])
    finally:
        for box in boxes:
            box.kill()


def test_an_open_connection_is_cut_by_its_policys_change_and_by_no_other(
    edited: Edited, client: Client
) -> None:
    with (
        Sandbox.create(client=client, network="changing") as changing,
        Sandbox.create(client=client, network="steady") as steady,
    ):
        assert reached(steady) == reached(changing) == [True, True]
        talking = [
            box.process.start(["python3", "-c", _KEPT, PUBLIC4], stdin=True)
            for box in (changing, steady)
        ]
        for each in talking:
            assert next(iter(each.output())).data == b"first\n"
        edited.write("changing", _OTHER)
        edited.reload()
        until(changing, [False, True])
        for each in talking:
            each.write("\n\n")
        said = [each.result(20).stdout for each in talking]
        assert said == ["first\ncut\n", "first\nsecond\n"]


_WRONG = (
    ("[[allow]\n", "changing.toml"),
    ('[[allow]]\ncidr = "300.1.1.1"\n', "changing.toml"),
    (
        '[[allow]]\ndomain = "api.example.org"\n[[attach]]\ndomain = "api.example.org"\n'
        'secret = "key"\n',
        "needs a restart",
    ),
)


def test_a_file_that_makes_no_sense_changes_nothing(edited: Edited, client: Client) -> None:
    edited.write("fresh", _OTHER)
    with Sandbox.create(client=client, network="changing") as sandbox:
        for text, why in _WRONG:
            edited.write("changing", text)
            said = edited.reload()
            assert said.count("from before stay in force") == said.count(why) == 2, said
            assert reached(sandbox) == [True, True]
            assert run(edited.service, "", network="fresh")["http"] == 422
            answer = run(edited.service, ASK, PUBLIC4, network="changing")
            assert "Error" not in answer["stdout"], answer
        edited.directory.rename(edited.directory.with_name("away"))
        said = edited.reload()
        assert said.count("from before stay in force") == said.count("No such file") == 2, said
        assert reached(sandbox) == [True, True]
        edited.directory.mkdir()  # another one, as a deployment may put it there
        edited.write("changing", _OTHER)
        said = edited.reload()
        assert said.count("changed changing; removed going") == 2, said
        until(sandbox, [False, True])
