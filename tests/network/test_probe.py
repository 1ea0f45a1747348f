"""What the node asks a firewall before it relies on it."""

import socket
from unittest import mock

import pytest

from sandboxd.drivers.network import probe
from sandboxd.drivers.network.nftables import NftablesFirewall
from sandboxd.errors import DriverFault
from tests.network.world import World

pytestmark = pytest.mark.root


def test_what_a_new_device_loses_is_sent_again(world: World) -> None:
    send, tries = probe._Listener._send, []

    def losing(listener: probe._Listener) -> None:
        tries.append(listener._family)
        if tries.count(listener._family) > 2:
            send(listener)

    with mock.patch.object(probe._Listener, "_send", losing):
        probe.holds(NftablesFirewall)
    for family in (socket.AF_INET, socket.AF_INET6):
        assert tries.count(family) >= 4, "three to find the way, and one that was stopped"


def test_a_firewall_that_stops_nothing_does_not_hold(world: World) -> None:
    class Idle(NftablesFirewall):
        def install(self) -> None:
            pass

        def dropped(self) -> dict[str, int]:
            return {}

    with pytest.raises(DriverFault, match="is open"):
        probe.holds(Idle)
