"""The firewall's rules, as data: what is matched, in which order, and what becomes of it. Pure.

Two backends write them to the kernel. Every rule has a name, and the tests take each one away and see
its probe get through. The order of the chains, for a packet that a sandbox sends:

    forward   sane → caps of its policy → floor → its policy → refuse
    input     sane → caps of its policy → the resolver, the proxy → drop

and for one that it shall get: caps → replies to what its policy let out → drop. Which policy a sandbox
has is the link group of its device, so a sandbox adds no rule; a policy adds the same few chains
whatever the number of its sandboxes. Caps count by source, and a sandbox may give any (IP_FREEBIND): so
what is not its own is stopped before.

A connection that a rule lets out carries the policy's mark from then on. The mark is new each time that
the policy is written, so its open connections meet the new rules at their next packet, both ways.
"""

from ipaddress import ip_network
from typing import Literal

from msgspec import Struct

from sandboxd.drivers.network.floor import Floor, Net
from sandboxd.model.egress import CLOSED_TCP, CLOSED_UDP, EgressPolicy, EgressRule, Spans


class Cap(Struct, frozen=True):
    """True for a packet beyond `amount` of a sandbox's own `kind`."""

    kind: Literal["packets", "bytes", "new", "connections"]
    amount: int
    """A second for `packets` and `new`."""
    receiving: bool = False
    """The sandbox is the packet's receiver, not its sender."""


class Match(Struct, frozen=True, kw_only=True):
    """All of what is set."""

    cap: Cap | None = None
    flaw: Literal["spoofed", "options", "invalid"] | None = None
    nets: tuple[Net, ...] = ()
    """Destinations, of both families."""
    protocol: Literal["tcp", "udp"] | None = None
    ports: Spans = ()
    user: int = 0
    """Sent by a process of this user, and not as a reply."""
    marked: int = 0
    """Of a connection that carries this mark."""
    reply: bool = False
    """In the direction that the sandbox did not open."""
    opened: bool = False
    """To an address that was answered to this sandbox for a name."""
    members: bool = False
    """Between two sandboxes of one group network."""
    mates: Literal["to", "from"] | None = None
    """The same, where the other one is on another node."""
    resolver: bool = False
    """To the resolver, by a sandbox whose policy speaks of names."""
    proxied: bool = False
    """To the proxy, by redirection."""


class Mark(Struct, frozen=True):
    """Accept, and let the connection carry the mark."""

    mark: int


Verdict = Literal["accept", "drop", "refuse"] | Mark


_COUNTED_ONLY = frozenset(
    {"packets", "bytes", "multicast", "inbound", "invalid", "guard", "spoofed"}
)
"""Rules whose packets are many, or not the sandbox's deed, or do not say whose they are: they are counted
and not reported."""
REPORTS_RATE, REPORTS_BURST = 10, 50
"""Reports a second of one sandbox, and at once."""


class Rule(Struct, frozen=True):
    name: str
    match: Match
    verdict: Verdict

    @property
    def report(self) -> str:
        """How its packets are reported, `verdict:rule`; empty if they are not."""
        if self.verdict == "accept" or self.name in _COUNTED_ONLY:
            return ""
        return f"{'allowed' if isinstance(self.verdict, Mark) else 'refused'}:{self.name}"


class PolicyChains(Struct, frozen=True, kw_only=True):
    """What one policy adds. Each list is tried in order and falls through at its end."""

    sent: tuple[Rule, ...]
    """Caps of what its sandboxes send, to wherever."""
    received: tuple[Rule, ...]
    policy: tuple[Rule, ...]
    replies: tuple[Rule, ...]
    resolving: bool
    """Whether its sandboxes may ask the resolver."""


SANE = (
    Rule("spoofed", Match(flaw="spoofed"), "drop"),
    Rule("options", Match(flaw="options"), "drop"),
    Rule("invalid", Match(flaw="invalid"), "drop"),
)
LOCAL = (
    Rule("resolver", Match(resolver=True), "accept"),
    Rule("proxy", Match(proxied=True), "accept"),
    Rule("node", Match(), "refuse"),
)
"""Of packets to the node's own addresses."""
MEMBERS = (
    Rule("members", Match(members=True), "accept"),
    Rule("mates", Match(mates="to"), "accept"),
)
MATES = (Rule("mates", Match(mates="from"), "accept"),)
"""Of packets that come from other nodes."""
OVER = (Rule("new", Match(), "drop"), Rule("connections", Match(), "drop"))
"""Of packets that a cap whose refusals are reported was asked about, and is beyond."""
REFUSE = (Rule("default", Match(), "refuse"),)
NODE_SENDS = (
    Rule("multicast", Match(nets=tuple(map(ip_network, ("224.0.0.0/4", "ff00::/8")))), "drop"),
)
"""Of packets that the node itself sends to sandboxes: its kernel reports groups on every link."""
INBOUND = (Rule("inbound", Match(), "drop"),)


def guard_rules(floor: Floor, user: int, resolvers: tuple[Net, ...]) -> tuple[Rule, ...]:
    """Of packets that the guard, a process of this user, sends: it connects to nobody in the floor but
    the name servers that it is to ask."""
    if not user:
        return ()
    port: Spans = ((53, 53),)
    asking = (
        Rule("ask", Match(user=user, nets=resolvers, protocol="tcp", ports=port), "accept"),
        Rule("ask", Match(user=user, nets=resolvers, protocol="udp", ports=port), "accept"),
    )
    nets: tuple[Net, ...] = (*floor.nets4, *floor.nets6)
    return (*(asking if resolvers else ()), Rule("guard", Match(user=user, nets=nets), "drop"))


def floor_rules(floor: Floor) -> tuple[Rule, ...]:
    return (Rule("floor", Match(nets=(*floor.nets4, *floor.nets6)), "refuse"),)


def policy_chains(policy: EgressPolicy, mark: int, *, network: bool = False) -> PolicyChains:
    """The chains of `policy`, whose sandboxes have a resolver besides if they are a `network`.

    `mark` is one that no other policy, nor an earlier writing, has had.
    """
    accept = Mark(mark)
    rules = [Rule("open", Match(marked=mark), "accept")]
    for rule in policy.deny:
        if rule.cidr is not None:
            rules.append(Rule("deny", _flow(rule), "refuse"))
    allowed = [rule for rule in policy.allow if rule.cidr is not None]
    rules += [Rule("allow", _flow(rule), accept) for rule in allowed if rule.ports]
    for rule in allowed:
        if not rule.ports:
            closed = CLOSED_TCP if rule.protocol == "tcp" else CLOSED_UDP
            match = Match(nets=(rule.network(),), protocol=rule.protocol, ports=closed)
            rules += [Rule("closed", match, "refuse"), Rule("allow", _flow(rule), accept)]
    if policy.named:
        rules.append(Rule("named", Match(opened=True), accept))
    return PolicyChains(
        sent=(
            Rule("packets", Match(cap=Cap("packets", policy.packet_rate)), "drop"),
            Rule("bytes", Match(cap=Cap("bytes", policy.total_bytes)), "drop"),
            Rule("new", Match(cap=Cap("new", policy.connection_rate)), "drop"),
            Rule("connections", Match(cap=Cap("connections", policy.connections)), "drop"),
        ),
        received=(
            Rule("bytes", Match(cap=Cap("bytes", policy.total_bytes, receiving=True)), "drop"),
        ),
        policy=tuple(rules),
        replies=(Rule("reply", Match(reply=True, marked=mark), "accept"),),
        resolving=policy.named or network,
    )


def _flow(rule: EgressRule) -> Match:
    return Match(nets=(rule.network(),), protocol=rule.protocol, ports=rule.spans())
