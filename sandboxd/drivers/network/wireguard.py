"""The tunnel that the overlay's packets go through: one WireGuard device, one peer for each node.

A node makes its key pair when it starts; the private key goes to the kernel and nowhere else. A node's
address in the tunnel follows from its public key, so nobody is told it and nobody can take another's.
"""

import hashlib
import ipaddress
import logging
import socket
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec import Struct
from pyroute2 import IPRoute, WireGuard
from pyroute2.netlink.exceptions import NetlinkError

from sandboxd.drivers.network.namespaces import close, here, inside
from sandboxd.errors import DriverFault
from sandboxd.model.overlay import Peer
from sandboxd.native import new_netns

log = logging.getLogger(__name__)

MTU = 1_420
"""Bytes of a packet in the tunnel: what is left of an underlay's 1,500 under IPv6."""
_PREFIX = bytes.fromhex("fd5db0c577")
"""Of every address in a tunnel; the other 88 bits are of the key."""
_NODAD = 2


class KeyPair(Struct, frozen=True):
    """Both in base64, as WireGuard has them."""

    public: str
    private: str

    def __repr__(self) -> str:
        return f"KeyPair({self.public})"

    @classmethod
    def new(cls) -> Self:
        key = X25519PrivateKey.generate()
        return cls(
            public=b64encode(key.public_key().public_bytes_raw()).decode(),
            private=b64encode(key.private_bytes_raw()).decode(),
        )

    @property
    def address(self) -> str:
        return address_of(self.public)


def address_of(public: str) -> str:
    """Where the owner of this public key is in the tunnel. Raises ValueError if it is none."""
    try:
        key = b64decode(public, validate=True)
    except Error as error:
        raise ValueError(f"not a key: {public!r}") from error
    if len(key) != 32 or b64encode(key).decode() != public:
        raise ValueError(f"not a key: {public!r}")
    digest = hashlib.blake2s(key, digest_size=16 - len(_PREFIX), person=b"sbx-addr").digest()
    return str(ipaddress.IPv6Address(_PREFIX + digest))


def admitted(peers: Iterable[Peer], own: str) -> list[Peer]:
    """Those that can be peers of the node with that key: who has told a key of its own and an endpoint.
    The first who comes with a key has it."""
    taken, found = {own}, []
    for peer in peers:
        try:
            address_of(peer.key)
            ipaddress.ip_address(peer.underlay)
        except ValueError as error:
            log.warning("a node is no peer: %s", error)
            continue
        if peer.key in taken or not 0 < peer.port < 65_536:
            log.warning("a node is no peer: its key is another's, or it has no port")
            continue
        taken.add(peer.key)
        found.append(peer)
    return found


class Tunnel:
    def __init__(self, name: str, keys: KeyPair, port: int) -> None:
        """Makes the device, in the calling thread's namespace; `port` is where it hears. Raises
        DriverFault."""
        self._name, self._peers = name, set[Peer]()
        self._netlink = IPRoute()
        try:
            self._netlink.link("add", ifname=name, kind="wireguard", mtu=MTU)
            self.index = socket.if_nametoindex(name)
            with WireGuard() as wireguard:
                wireguard.set(name, private_key=keys.private, listen_port=port)
            self._netlink.addr(
                "add", index=self.index, address=keys.address, prefixlen=128, flags=_NODAD
            )
            self._netlink.link("set", index=self.index, state="up")
        except (NetlinkError, OSError) as error:
            self._netlink.close()
            raise DriverFault(
                "network", "make the overlay's WireGuard device", str(error)
            ) from error

    def close(self) -> None:
        self._netlink.close()

    def connect(self, peers: Collection[Peer]) -> None:
        """Speak with these, as `admitted` has them, and with nobody else. Raises NetlinkError or
        OSError."""
        gone, new = changes(self._peers, set(peers))
        for peer in gone:
            self._remove(peer)
            self._peers.discard(peer)
        for peer in new:
            try:
                self._add(peer)
            except (NetlinkError, OSError):
                self._remove(peer)
                raise
            self._peers.add(peer)

    def _add(self, peer: Peer) -> None:
        # No keepalive: either end may begin, and nodes stay where they have said that they are.
        self._set(
            {
                "public_key": peer.key,
                "endpoint_addr": peer.underlay,
                "endpoint_port": peer.port,
                "replace_allowed_ips": True,
                "allowed_ips": [f"{address_of(peer.key)}/128"],
            }
        )
        self._route("replace", peer)

    def _remove(self, peer: Peer) -> None:
        self._set({"public_key": peer.key, "remove": True})
        with suppress(NetlinkError):  # it may never have been there
            self._route("del", peer)

    def _set(self, peer: dict[str, object]) -> None:
        with WireGuard() as wireguard:
            wireguard.set(self._name, peer=peer)

    def _route(self, verb: str, peer: Peer) -> None:
        self._netlink.route(
            verb, dst=f"{address_of(peer.key)}/128", oif=self.index, family=socket.AF_INET6
        )


def changes(have: set[Peer], wanted: set[Peer]) -> tuple[set[Peer], set[Peer]]:
    """Who goes first and who comes then. Who only has moved goes and comes: its key begins anew."""
    return have - wanted, wanted - have


def require() -> None:
    """Raises DriverFault if the kernel makes no such device."""
    home, scratch = here(), new_netns()
    try:
        inside(scratch, home, _try)
    except (NetlinkError, OSError) as error:
        raise DriverFault("network", "find WireGuard in the kernel", str(error)) from error
    finally:
        close(scratch, home)


def _try() -> None:
    with IPRoute() as link:
        link.link("add", ifname="probe", kind="wireguard")
