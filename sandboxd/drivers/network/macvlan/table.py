"""The firewall in a sandbox's own namespace, as a text for nftables. Pure.

The same rules as on the node, where a packet is seen once instead of twice: `output` is what the node's
`forward` is for one that a sandbox sends, `input` for one that it gets. What it may look like on the wire
is checked behind all of that, at the device (`egress` of the family netdev): its own link-layer address,
its own addresses, and questions for neighbours that do not speak for others.
"""

from sandboxd.drivers.network import rules
from sandboxd.drivers.network.firewall import Layout
from sandboxd.drivers.network.macvlan.seats import Seat
from sandboxd.drivers.network.nftables_lines import FAMILIES, Scribe
from sandboxd.drivers.network.rules import Rule, policy_chains
from sandboxd.model.egress import EgressPolicy

DEVICE = "eth1"
REPORTS = 1
"""NFLOG group, of the sandbox's own namespace."""
_COUNTS = ("packets", "bytes", "new", "connections", "reported")
_WIRE, _TABLE = "netdev sandboxd", "inet sandboxd"
_UNTRACKED = "\n".join(
    f"""chain untracked_{hook} {{
type filter hook {hook} priority raw; policy accept;
{device} != "{DEVICE}" notrack
}}"""
    for hook, device in (("output", "oifname"), ("prerouting", "iifname"))
)
"""Of connections by any other device, its loopback for one, no record is kept: no cap bounds how many
there are, and no limit of the sandbox counts that memory."""
_SANE = tuple(rule for rule in rules.SANE if rule.match.flaw != "spoofed")


def table(seat: Seat, policy: EgressPolicy, mark: int, layout: Layout) -> str:
    """All of it at one stroke, instead of what is there. `mark` is one that no earlier one has had."""
    scribe, chains = Scribe(layout), policy_chains(policy, mark)
    written = {
        "sent": chains.sent,
        "sane": _SANE,
        "floor": rules.floor_rules(layout.floor),
        "allowed": chains.policy,
        "refuse": rules.REFUSE,
        "received": chains.received,
        "replies": chains.replies,
        "inbound": rules.INBOUND,
        **{f"over_{rule.name}": (rule,) for rule in rules.OVER},
    }
    return f"""{_wire(seat, layout.omit)}
add table {_TABLE}
delete table {_TABLE}
table {_TABLE} {{
{_sets()}
{_chains(written, scribe)}
{_UNTRACKED}
chain output {{
type filter hook output priority filter; policy {_otherwise("default", layout.omit)};
oifname != "{DEVICE}" accept
icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report }} accept
{_source(seat, layout.omit)}
jump sane
jump sent
jump floor
jump allowed
goto refuse
}}
chain input {{
type filter hook input priority filter; policy {_otherwise("inbound", layout.omit)};
iifname != "{DEVICE}" accept
icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept
{_download(policy)}
jump received
jump replies
goto inbound
}}
}}"""


def _otherwise(rule: str, omit: frozenset[str]) -> str:
    """What becomes of a packet behind the last rule, which stops all: should it not, this does."""
    return "accept" if rule in omit else "drop"


def _wire(seat: Seat, omit: frozenset[str]) -> str:
    """What may leave the device, whoever made it."""
    lines = []
    for address in seat.addresses:
        if address.version == 4:
            lines += [
                f"ip saddr {address.ip} accept",
                f"arp saddr ether {seat.mac} arp saddr ip {address.ip} accept",
            ]
        else:
            # Which groups it listens to is told before an address is there to tell it from.
            groups = "ip6 saddr :: icmpv6 type mld2-listener-report accept"
            lines += [f"ip6 saddr {address.ip} accept", groups]
    own = "\n".join(lines)
    last = "" if "spoofed" in omit else 'counter drop comment "spoofed"'
    return f"""add table {_WIRE}
delete table {_WIRE}
table {_WIRE} {{
chain own {{
{own}
}}
chain leaving {{
type filter hook egress device "{DEVICE}" priority 0; policy {_otherwise("spoofed", omit)};
ether saddr {seat.mac} jump own
{last}
}}
}}"""


def _source(seat: Seat, omit: frozenset[str]) -> str:
    """Before anything is counted by its source: a socket may give any of IPv6 (IPV6_FREEBIND)."""
    if "spoofed" in omit:
        return ""
    own = {address.version: str(address.ip) for address in seat.addresses}
    conditions = [
        f"{family} saddr != {own[digit]}" if digit in own else f"meta nfproto ipv{digit}"
        for digit, family, _ in FAMILIES
    ]
    return "\n".join(f'{condition} counter drop comment "spoofed"' for condition in conditions)


def _sets() -> str:
    return "\n".join(
        f"set {count}{digit} {{ type {kind}; flags dynamic; size 16; }}"
        for digit, _, kind in FAMILIES
        for count in _COUNTS
    )


def _chains(written: dict[str, tuple[Rule, ...]], scribe: Scribe) -> str:
    return "\n".join(
        f"chain {name} {{\n{scribe.lines(of_chain)}\n}}" for name, of_chain in written.items()
    )


def _download(policy: EgressPolicy) -> str:
    """Nothing of the host's stands before this device: what comes too fast, beyond a second's worth at
    once, is not delayed but dropped."""
    if policy.download is None:
        return ""
    return f"limit rate over {policy.download} bytes/second drop"
