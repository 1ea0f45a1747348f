"""What is told of a sandbox on an interface's network, whose packets its own namespace alone sees."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from sandboxd.drivers.network import flows, nflog
from sandboxd.drivers.network.macvlan.port import Port
from sandboxd.model.network_use import NetworkRecord
from sandboxd.node.network_use import of_firewall, of_flow


class Hearing:
    def __init__(self, port: Port, told: Callable[[NetworkRecord], None]) -> None:
        """In the running loop, until closed."""
        self.port, self._told = port, told
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(port.reports, self._reported)
        self._loop.add_reader(port.flows, self._flowed)

    def _reported(self) -> None:
        for data in _waiting(self.port.reports):
            for report in nflog.reports(data):
                self._told(of_firewall(report))

    def _flowed(self) -> None:
        for data in _waiting(self.port.flows):
            for flow in flows.flows(data):
                self._told(of_flow(flow))

    def close(self) -> None:
        """Take what is there, and no more. The device is gone."""
        self._reported()
        self._flowed()
        for line in (self.port.reports, self.port.flows):
            self._loop.remove_reader(line)
        self.port.close()


def _waiting(line: socket.socket) -> list[bytes]:
    found = []
    with suppress(OSError):  # nothing left, or the kernel had more than it could keep
        while True:
            found.append(line.recv(65_536))
    return found
