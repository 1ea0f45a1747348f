"""The firewall by nftables: one table of both families, verdict maps from link groups to policies."""

import re
from collections import Counter
from collections.abc import Collection, Iterable

from sandboxd.drivers.network import rules
from sandboxd.drivers.network.addresses import GROUPS, Addresses
from sandboxd.drivers.network.firewall import PROXY_PORT, Layout, Living, Opening
from sandboxd.drivers.network.floor import Address
from sandboxd.drivers.network.libnftables import Nftables
from sandboxd.drivers.network.nftables_lines import FAMILIES, Scribe, flow_key
from sandboxd.drivers.network.rules import PolicyChains

_PARTS = ("sent", "received", "policy", "replies")
"""Chains of a policy; a verdict map leads to those of each kind."""
_COUNTS = ("packets", "bytes", "new", "connections", "reported")
_STATE_MAX = 65_536
"""Elements of a set of counts: more than there can be sandboxes, so that no cap fails open."""
_NAMES_MAX = 1 << 20
_GROUP = re.compile(rf"chain {_PARTS[0]}_(\d+) ")
_ELEMENTS = re.compile(r"set (\w+) \{[^{}]*elements = \{([^{}]*)\}")
_ADDRESS = re.compile(r"(?:^|,)\s*([0-9a-f.:]+)")
_COUNTED = re.compile(r'counter packets (\d+) bytes \d+ .*comment "([a-z]+)"')


class NftablesFirewall:
    name = "nftables"

    def __init__(self, layout: Layout) -> None:
        """For the network namespace of the calling thread. Raises DriverFault."""
        self._layout, self._plan = layout, layout.plan
        self._table = f"inet {layout.plan.table}"
        self._scribe = Scribe(layout)
        self._nft = Nftables()

    def install(self) -> None:
        self._nft.run(f"add table {self._table}\ndelete table {self._table}\n{self._fixed()}")

    def resume(self, living: Collection[Living], slots: Collection[Addresses]) -> None:
        listed = self._nft.run(f"list table {self._table}")
        addresses = {str(address) for slot in slots for address in (slot.ipv4, slot.ipv6)}
        script = [f"flush table {self._table}"]  # of rules; sets, maps and chains stay
        for group in sorted({int(group) for group in _GROUP.findall(listed)}):
            if all(group != one.group for one in living):
                script += self._dropping(group)
        for name, body in _ELEMENTS.findall(listed):
            if name[:-1] in _COUNTS:
                for address in set(_ADDRESS.findall(body)) - addresses:
                    element = f"element {self._table} {name} {{ {address} }}"
                    script += [f"add {element}", f"delete {element}"]
        for name in ("opened", "proxied"):
            script += [f"flush set {self._table} {name}{digit}" for digit, _, _ in FAMILIES]
        script.append(self._fixed())
        for one in living:
            script += self._putting(one.group, one.chains, members=one.members)
        self._nft.run("\n".join(script))

    def put(self, group: int, chains: PolicyChains, *, members: bool = False) -> None:
        self._nft.run("\n".join(self._putting(group, chains, members=members)))

    def _putting(self, group: int, chains: PolicyChains, *, members: bool) -> list[str]:
        script: list[str] = []
        for part in _PARTS:
            chain = f"{self._table} {part}_{group}"
            script += [f"add chain {chain}", f"flush chain {chain}"]
            script += [
                f"add rule {chain} {text}" for text in self._scribe.texts(getattr(chains, part))
            ]
            script.append(
                f"add element {self._table} by_{part} {{ {group} : jump {part}_{group} }}"
            )
        # Adding what is there is no error, deleting what is not is one.
        for name, wanted in (("resolving", chains.resolving), ("members", members)):
            script.append(f"add {self._of_group(name, group)}")
            if not wanted:
                script.append(f"delete {self._of_group(name, group)}")
        return script

    def drop(self, group: int) -> None:
        self._nft.run("\n".join(self._dropping(group)))

    def _dropping(self, group: int) -> list[str]:
        script = [f"delete element {self._table} by_{part} {{ {group} }}" for part in _PARTS]
        for name in ("resolving", "members"):
            element = self._of_group(name, group)
            script += [f"add {element}", f"delete {element}"]
        for part in _PARTS:
            script.append(f"delete chain {self._table} {part}_{group}")
        return script

    def _of_group(self, name: str, group: int) -> str:
        key = f"{group} . {group}" if name == "members" else f"{group}"
        return f"element {self._table} {name} {{ {key} }}"

    def open(self, openings: Iterable[Opening]) -> None:
        script: list[str] = []
        for opening in openings:
            # An element's time is not prolonged by adding it again.
            script += [
                f"add {self._element(opening)} }}",
                f"delete {self._element(opening)} }}",
                f"add {self._element(opening)} timeout {opening.ttl}s }}",
            ]
        if script:
            self._nft.run("\n".join(script))

    def _element(self, opening: Opening) -> str:
        name = f"{'proxied' if opening.proxied else 'opened'}{opening.address.version}"
        key = f"{opening.sandbox} . {opening.protocol} . {opening.port} . {opening.address}"
        return f"element {self._table} {name} {{ {key}"

    def forget(self, slot: Addresses, openings: Iterable[Opening]) -> None:
        elements = [
            f"element {self._table} {count}{address.version} {{ {address} }}"
            for address in (slot.ipv4, slot.ipv6)
            for count in _COUNTS
        ]
        elements += [f"{self._element(opening)} }}" for opening in openings]
        self._nft.run("\n".join(f"add {element}\ndelete {element}" for element in elements))

    def connect(self, peers: Collection[Address], mates: Collection[tuple[int, Address]]) -> None:
        script = []
        for version in (4, 6):
            texts = {
                "peers": [str(peer) for peer in peers if peer.version == version],
                "mates": [f"{g} . {mate}" for g, mate in mates if mate.version == version],
            }
            for name, elements in texts.items():
                script.append(f"flush set {self._table} {name}{version}")
                if elements:
                    body = ", ".join(elements)
                    script.append(f"add element {self._table} {name}{version} {{ {body} }}")
        self._nft.run("\n".join(script))

    def dropped(self) -> dict[str, int]:
        found: Counter[str] = Counter()
        for line in self._nft.run(f"list table {self._table}").splitlines():
            counted = _COUNTED.search(line)
            if counted is not None and not line.strip().split(" comment")[0].endswith("accept"):
                found[counted[2]] += int(counted[1])
        return dict(found)

    def remove(self) -> None:
        self._nft.run(f"add table {self._table}\ndelete table {self._table}")
        self._nft.close()

    def _fixed(self) -> str:
        base = self._plan.group_base
        ours = f"{base}-{base + GROUPS - 1}"
        # Of other nodes' packets, only those for a sandbox go anywhere.
        others = f'iifname "{self._plan.overlay_device}" drop'
        maps = "\n".join(f"map by_{part} {{ type devgroup : verdict; }}" for part in _PARTS)
        chains = {
            "sane": rules.SANE,
            "floor": rules.floor_rules(self._layout.floor),
            "members_of": rules.MEMBERS if self._layout.overlay else rules.MEMBERS[:1],
            "mates_of": rules.MATES if self._layout.overlay else (),
            "refuse": rules.REFUSE,
            **{f"over_{rule.name}": (rule,) for rule in rules.OVER},
            "local": rules.LOCAL,
            "inbound": rules.INBOUND,
            "node_sends": rules.NODE_SENDS,
            "guard_sends": rules.guard_rules(
                self._layout.floor, self._layout.guard, self._layout.resolvers
            ),
        }
        written = "\n".join(
            f"chain {name} {{\n{self._scribe.lines(of_chain)}\n}}"
            for name, of_chain in chains.items()
        )
        return f"""table {self._table} {{
{maps}
set resolving {{ type devgroup; }}
set members {{ typeof meta iifgroup . meta oifgroup; }}
{self._sets()}
{written}
chain leaving {{
jump sane
iifgroup vmap @by_sent
jump members_of
jump floor
iifgroup vmap @by_policy
goto refuse
}}
chain arriving {{
oifgroup vmap @by_received
jump mates_of
oifgroup vmap @by_replies
goto inbound
}}
chain here {{
jump sane
iifgroup vmap @by_sent
goto local
}}
chain forward {{
type filter hook forward priority filter; policy accept;
{self._beside()}
iifgroup {ours} goto leaving
oifgroup {ours} goto arriving
{others}
}}
chain input {{
type filter hook input priority filter; policy accept;
iifgroup {ours} goto here
{others}
{self._strangers()}
{self._tunnelled("i")}
}}
chain output {{
type filter hook output priority filter; policy accept;
{self._tunnelled("o")}
jump guard_sends
oifgroup {ours} jump node_sends
oifgroup {ours} oifgroup vmap @by_received
}}
chain redirected {{
type nat hook prerouting priority dstnat; policy accept;
{self._redirections()}
}}
{self._masquerade()}
}}"""

    def _strangers(self) -> str:
        """Whoever is no node of ours does not speak for one."""
        if not self._layout.overlay:
            return ""
        port = f"udp dport {self._layout.overlay}"
        return f"{port} ip saddr != @peers4 drop\n{port} ip6 saddr != @peers6 drop"

    def _tunnelled(self, way: str) -> str:
        """Through the tunnel go the overlay's packets and no others, and they go nowhere else."""
        if not self._layout.tunnel:
            return ""
        device, port = f"{way}ifname", f"udp dport {self._layout.overlay}"
        name, near = self._plan.tunnel_device, "daddr" if way == "i" else "saddr"
        others = f'{device} != "{name}"'
        lines = [f"{others} ip6 {near} {self._layout.tunnel} drop"]
        if way == "i":
            lines += [f"{others} {port} drop", f'{device} "{name}" {port} accept']
            lines.append(f'{device} "{name}" drop')
        return "\n".join(lines)

    def _beside(self) -> str:
        """Nobody's packets are carried into the tunnel or out of it but the node's own."""
        if not self._layout.tunnel:
            return ""
        name = self._plan.tunnel_device
        return f'iifname "{name}" drop\noifname "{name}" drop'

    def _sets(self) -> str:
        lines = []
        for digit, _, kind in FAMILIES:
            lines.append(f"set peers{digit} {{ type {kind}; }}")
            lines.append(f"set mates{digit} {{ type devgroup . {kind}; }}")
        for digit, _, kind in FAMILIES:
            for count in _COUNTS:
                lines.append(
                    f"set {count}{digit} {{ type {kind}; flags dynamic; size {_STATE_MAX}; }}"
                )
            for name in ("opened", "proxied"):
                lines.append(
                    f"set {name}{digit} {{ type {kind} . inet_proto . inet_service . {kind}; "
                    f"flags timeout; size {_NAMES_MAX}; }}"
                )
        return "\n".join(lines)

    def _redirections(self) -> str:
        routers = (self._plan.router4, self._plan.router6)
        return "\n".join(
            f"{flow_key(family)} @proxied{digit} meta l4proto tcp "
            f"dnat {family} to {_with_port(str(router))}"
            for (digit, family, _), router in zip(FAMILIES, routers, strict=True)
        )

    def _masquerade(self) -> str:
        if not self._layout.nat:
            return ""
        base = self._plan.group_base
        others = f'oifgroup != {base}-{base + GROUPS - 1} oifname != "{self._plan.overlay_device}"'
        return f"""chain masqueraded {{
type nat hook postrouting priority srcnat; policy accept;
ip saddr {self._plan.ipv4} {others} masquerade
ip6 saddr {self._plan.ipv6} {others} masquerade
}}"""


def _with_port(address: str) -> str:
    return f"[{address}]:{PROXY_PORT}" if ":" in address else f"{address}:{PROXY_PORT}"
