"""Which policy has which link group. Equal policies share one, however many sandboxes have them. Pure."""

import hashlib
from collections import deque

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from sandboxd.drivers.network.addresses import GROUPS, QUARANTINE
from sandboxd.drivers.network.rules import PolicyChains, policy_chains
from sandboxd.errors import DriverFault, Overload
from sandboxd.model.egress import EgressPolicy


class _Group(Struct):
    key: tuple[str, bytes]
    users: int
    mark: int


class Groups:
    def __init__(self) -> None:
        self._free = deque(offset for offset in range(GROUPS) if offset != QUARANTINE)
        self._groups: dict[int, _Group] = {}
        self._by_policy: dict[tuple[str, bytes], int] = {}
        self._marks = 0

    def hold(self, policy: EgressPolicy, network: str = "") -> tuple[int, PolicyChains | None]:
        """The group of this policy, and of this network of sandboxes that see one another, once more
        in use; and its chains if they are to be written first.

        Raises Overload if there are more policies in use than groups.
        """
        key = (network, _key(policy))
        offset = self._by_policy.get(key)
        if offset is not None:
            self._groups[offset].users += 1
            return offset, None
        if not self._free:
            raise Overload("too many different network policies are in use", retry_after=5.0)
        offset = self._free.popleft()
        self._marks = self._marks % 0xFFFF_FFFE + 1
        self._groups[offset] = _Group(key, 1, self._marks)
        self._by_policy[key] = offset
        return offset, policy_chains(policy, self._marks, network=bool(network))

    def resume(self, offset: int, mark: int, policy: EgressPolicy, network: str) -> PolicyChains:
        """As `hold`, for a sandbox that has this group and mark since before this node began. New
        marks come after it.

        Raises DriverFault if others have told otherwise of the group or the policy.
        """
        key = (network, _key(policy))
        group = self._groups.get(offset)
        if group is None and key not in self._by_policy and offset in self._free:
            self._free.remove(offset)
            group = self._groups[offset] = _Group(key, 0, mark)
            self._by_policy[key] = offset
            self._marks = max(self._marks, mark)
        if group is None or (group.key, group.mark) != (key, mark):
            raise DriverFault("network", "resume a group", f"{offset} is another policy's")
        group.users += 1
        return policy_chains(policy, mark, network=bool(network))

    def mark(self, offset: int) -> int:
        """That connections carry which this group's policy has let out."""
        return self._groups[offset].mark

    def networks(self) -> dict[str, int]:
        """The groups that are networks of sandboxes, by a digest that every node makes alike."""
        return {
            _digest(group.key): offset for offset, group in self._groups.items() if group.key[0]
        }

    def network(self, offset: int) -> str:
        """The digest of this group; empty if it is no network."""
        group = self._groups.get(offset)
        return _digest(group.key) if group is not None and group.key[0] else ""

    def release(self, offset: int) -> bool:
        """One use less; True if it was the last, and the chains are to go."""
        group = self._groups[offset]
        group.users -= 1
        if group.users:
            return False
        del self._groups[offset], self._by_policy[group.key]
        self._free.append(offset)
        return True


def _digest(key: tuple[str, bytes]) -> str:
    return hashlib.blake2b(key[0].encode() + b"\0" + key[1], digest_size=16).hexdigest()


def _key(policy: EgressPolicy) -> bytes:
    """What makes two policies the same for the firewall."""
    return msgspec.json.encode(replace(policy, name="", title="", tenants=[]))
