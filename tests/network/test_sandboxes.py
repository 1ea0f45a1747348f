"""Sandboxes that live, with networks: what they may reach changes while they run."""

from collections.abc import Iterator

import pytest
from sandboxd_client import Client, RequestError, Sandbox

from tests.network.serving import serving
from tests.network.test_runs import ASK
from tests.network.world import OTHER4, PUBLIC4, World
from tests.service.instance import Service

pytestmark = [pytest.mark.root, pytest.mark.service]

EGRESS = {
    name: f'[[allow]]\ncidr = "{address}"\nports = [8080]\n'
    for name, address in (("one", PUBLIC4), ("other", OTHER4))
}


@pytest.fixture(scope="module")
def served(world: World) -> Iterator[Service]:
    with serving(EGRESS, "network.firewall=nftables") as service:
        yield service


@pytest.fixture(scope="module")
def client(served: Service) -> Iterator[Client]:
    with Client(served.url) as client:
        yield client


def reached(sandbox: Sandbox) -> list[bool]:
    """Whether it gets to the one address, and to the other."""
    answers = sandbox.run(["python3", "-c", ASK, PUBLIC4, OTHER4]).stdout.split("\n")[:2]
    return ["Error" not in answer for answer in answers]


def test_the_policy_of_a_sandbox_changes_while_it_lives(world: World, client: Client) -> None:
    with Sandbox.create(client=client, network="one") as sandbox:
        assert reached(sandbox) == [True, False]
        assert sandbox.update(network="other").network == "other"
        assert reached(sandbox) == [False, True]
        used = sandbox.metrics()
        assert used.rx_bytes > 100 and used.tx_bytes > 100

        sandbox.update(network="none")
        world.packets.clear()
        assert reached(sandbox) == [False, False]
        assert not world.arrived(PUBLIC4) and not world.arrived(OTHER4)
        (child,) = sandbox.fork()
        with child:
            assert child.info.network == "none"
            assert reached(child) == [False, False]

        sandbox.update(network="one")
        assert reached(sandbox) == [True, False], "and back again"


def test_what_was_built_without_a_network_gets_none(client: Client) -> None:
    with Sandbox.create(client=client) as sandbox:
        with pytest.raises(RequestError) as refused:
            sandbox.update(network="one")
        assert (refused.value.code, refused.value.field) == ("conflict", "network")
        assert sandbox.refresh().network == "none"
