"""What a sandbox may reach: data of `policies/egress/*.toml`.

Nothing is reachable but what an `allow` rule names, `deny` rules come before them, and below both lies a
floor (loopback, private, link-local, metadata, multicast addresses, the node itself) that only the
settings can open, never a policy.
"""

import ipaddress
import re
from typing import Annotated, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from sandboxd.model.names import Name

Port = Annotated[int, Meta(ge=1, le=65_535)]
PortRange = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,4}-[1-9][0-9]{0,4}\Z")]
Bytes = Annotated[int, Meta(ge=1, le=1 << 50)]
Rate = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Net = ipaddress.IPv4Network | ipaddress.IPv6Network

Spans = tuple[tuple[int, int], ...]
"""First and last port of each range; empty is every port."""

CLOSED_TCP: Spans = (
    (25, 25), (53, 53), (465, 465), (587, 587), (853, 853), (2525, 2525), (6660, 6669), (6697, 6697),
    (7000, 7000),
)  # fmt: skip
"""Mail, chat and DNS: closed unless a rule names the port."""
CLOSED_UDP: Spans = ((53, 53), (443, 443), (784, 784), (853, 853), (8853, 8853))
"""DNS and QUIC, which no name can be read from."""

_NAMED = ((80, 80), (443, 443))
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOSTNAME = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"(\*\.)?({_LABEL}\.)+[a-z]([a-z0-9-]{{0,61}}[a-z0-9])?")


class EgressRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[allow]]` or `[[deny]]`: exactly one of `cidr` and `domain`."""

    cidr: str | None = None
    """`198.51.100.0/24`, `2001:db8::/32`, or one address."""
    domain: str | None = None
    """`example.org`, or `*.example.org` for what lies below it at any depth. ASCII (IDNA) form."""
    protocol: Literal["tcp", "udp"] = "tcp"
    ports: Annotated[list[Port | PortRange], Meta(max_length=64)] = []
    """Empty: every port for a cidr, but those that are closed unless named (mail, chat, DNS, QUIC);
    80 and 443 for a domain."""
    opaque: bool = False
    """Of a domain: let anything pass to its addresses, not only TLS and HTTP that name it."""

    def __post_init__(self) -> None:
        if (self.cidr is None) == (self.domain is None):
            raise ValueError("give exactly one of cidr and domain")
        if self.cidr is not None:
            self.network()
            if self.opaque:
                raise ValueError("opaque is of domains")
        if self.domain is not None and (
            len(self.domain) > 253 or not _DOMAIN.fullmatch(self.domain)
        ):
            raise ValueError(
                f"domain: {self.domain!r} is not a lower-case name of two labels or more"
            )
        if self.domain is not None and self.protocol == "udp" and not (self.opaque and self.ports):
            raise ValueError("a domain by udp needs opaque and ports: nothing can look into it")
        if self.domain is not None and (
            len(self.ports) > 16 or any(isinstance(port, str) for port in self.ports)
        ):
            raise ValueError("ports: a domain takes up to 16, each by its number")
        self.spans()

    def network(self) -> Net:
        return ipaddress.ip_network(self.cidr or "")

    def spans(self) -> tuple[tuple[int, int], ...]:
        """First and last port of each entry. Raises ValueError for one that is none."""
        found = []
        for port in self.ports:
            first, _, last = str(port).partition("-")
            low, high = int(first), int(last or first)
            if low > high or high > 65_535:
                raise ValueError(f"ports: {port!r} is no range")
            found.append((low, high))
        return tuple(found)


_FRAMING = frozenset(
    {
        "host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer",
        "expect", "proxy-authorization", "proxy-connection", "keep-alive",
    }
)  # fmt: skip


class Attachment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[attach]]`: a header that requests to one host get on their way out, by TLS alone. What the
    sandbox has sent in its place is left out, and its value never enters the sandbox."""

    domain: str
    """A name that a rule allows and that is not `opaque`; no wildcard."""
    header: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}\Z")] = "Authorization"
    secret: Name
    """Its name in the file `network.secrets_file`."""
    value: Annotated[str, Meta(max_length=256, pattern=r"^[ -~]*\{\}[ -~]*\Z")] = "Bearer {}"
    """The header's value, where `{}` stands for the secret."""

    def __post_init__(self) -> None:
        if self.domain.startswith("*") or not _DOMAIN.fullmatch(self.domain):
            raise ValueError(f"domain: {self.domain!r} is not the name of one host")
        if self.header.lower() in _FRAMING:
            raise ValueError(f"header: {self.header} says how a message is read")


class EgressPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Name
    title: str = ""
    tenants: list[str] = field(default_factory=lambda: ["*"])
    """Who may ask for it by name; `*` is everybody."""
    interface: Name | None = None
    """Of `network.macvlan` in the settings: its sandboxes are on the network of that interface. Rules
    that name addresses are of that network then, those that name domains of the node's."""
    allow: Annotated[list[EgressRule], Meta(max_length=1_000)] = []
    deny: Annotated[list[EgressRule], Meta(max_length=1_000)] = []
    """Wins over `allow`."""
    attach: Annotated[list[Attachment], Meta(max_length=16)] = []
    resolve: bool = False
    """Answer every name, not only those that a rule allows; what a name leads to still needs a rule."""
    connections: Annotated[int, Meta(ge=1, le=100_000)] = 128
    """Open at once (UDP flows count until they fall silent)."""
    connection_rate: Rate = 50
    """New ones a second; a second's worth may come at once."""
    packet_rate: Rate = 20_000
    """Packets a second that the sandbox sends."""
    total_bytes: Bytes = 1 << 40
    """Of IP packets in both directions while the sandbox lives; then nothing passes any more."""
    upload: Bytes | None = None
    """Bytes a second; None does not shape."""
    download: Bytes | None = None

    def permits(self, tenant: str) -> bool:
        return "*" in self.tenants or tenant in self.tenants

    @property
    def named(self) -> bool:
        """Whether its sandboxes have a resolver."""
        return self.resolve or any(rule.domain is not None for rule in (*self.allow, *self.deny))


_NOTHING = EgressPolicy(name="none")


def by_address(policy: EgressPolicy) -> EgressPolicy:
    """What of it goes by an interface: rules that name addresses."""
    allow, deny = ([rule for rule in rules if rule.cidr] for rules in (policy.allow, policy.deny))
    return replace(policy, allow=allow, deny=deny, attach=[], resolve=False)


def on_node(policy: EgressPolicy, network: str) -> EgressPolicy:
    """What the node's own rules are to hold. Of an interface's policy, for one who has names or is in a
    network of sandboxes: rules that name domains, and their like; denied addresses are so there too."""
    if policy.interface is None:
        return policy
    if not policy.named and not network:
        return _NOTHING
    allow = [rule for rule in policy.allow if rule.domain]
    return replace(policy, interface=None, allow=allow)


def loose_attachment(policy: EgressPolicy) -> str | None:
    """The domain of an attachment that no rule of the policy lets the proxy see."""
    for attachment in policy.attach:
        wanted = EgressRule(domain=attachment.domain)
        if not any(
            rule.domain is not None and not rule.opaque and _named_within(rule, wanted)
            for rule in policy.allow
        ):
            return attachment.domain
    return None


class NetworkRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy, of which only a part is wanted."""

    policy: Name
    allow: Annotated[list[EgressRule], Meta(max_length=100)]
    """Each within what a rule of the policy allows; the policy's `deny` and caps hold besides."""


class SandboxNetwork(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The network of a sandbox that stays: a policy or a part of it, and whom of its own kind it sees."""

    policy: Name = "none"
    allow: Annotated[list[EgressRule], Meta(max_length=100)] | None = None
    """As in `NetworkRequest`; None: all of the policy."""
    group: Annotated[str, Meta(pattern=rf"^{_HOSTNAME}\Z")] | None = None
    """Sandboxes of one tenant and policy that name the same group reach one another on every port, and
    find one another as `NAME.internal`; those of other nodes too, if nodes have `network.overlay`."""
    hostname: Annotated[str, Meta(pattern=rf"^{_HOSTNAME}\Z")] | None = None
    """Its name in the group; None: its id, with a hyphen for the underscore. Of two with one name, one
    answers."""

    def __post_init__(self) -> None:
        if self.policy == "none" and self.group is None:
            raise ValueError("give a policy or a group")
        if self.hostname is not None and self.group is None:
            raise ValueError("hostname is of a group")


def narrowed(policy: EgressPolicy, allow: list[EgressRule]) -> EgressPolicy:
    """The policy with `allow` for its own. Raises ValueError, naming the rule that it does not hold."""
    for rule in allow:
        if not any(_covers(wide, rule) for wide in policy.allow):
            raise ValueError(f"{rule.cidr or rule.domain} is not within {policy.name}")
    return replace(policy, allow=allow)


def remaining(policy: EgressPolicy, allow: list[EgressRule]) -> EgressPolicy:
    """The policy with those of `allow` that it holds for its own: it may have held more once."""
    return replace(
        policy, allow=[rule for rule in allow if any(_covers(wide, rule) for wide in policy.allow)]
    )


def _covers(wide: EgressRule, rule: EgressRule) -> bool:
    if wide.protocol != rule.protocol:
        return False
    if wide.cidr is not None and rule.cidr is not None:
        net, narrow = wide.network(), rule.network()
        within = net.version == narrow.version and narrow.subnet_of(net)  # type: ignore[arg-type]
        return within and _ports_within(wide, rule)
    if wide.domain is None or rule.domain is None or (rule.opaque and not wide.opaque):
        return False
    if not _named_within(wide, rule):
        return False
    mine = wide.spans() or _NAMED
    return all(_inside(span, mine) for span in rule.spans() or _NAMED)


def _named_within(wide: EgressRule, rule: EgressRule) -> bool:
    mine, other = wide.domain or "", rule.domain or ""
    return other == mine or (mine.startswith("*.") and other.removeprefix("*").endswith(mine[1:]))


def _ports_within(wide: EgressRule, rule: EgressRule) -> bool:
    """Of addresses: what is closed unless it is named stays so."""
    if not wide.ports:
        closed = CLOSED_TCP if wide.protocol == "tcp" else CLOSED_UDP
        return not any(
            low <= last and first <= high for first, last in rule.spans() for low, high in closed
        )
    return bool(rule.ports) and all(_inside(span, wide.spans()) for span in rule.spans())


def _inside(span: tuple[int, int], spans: Spans) -> bool:
    return any(low <= span[0] and span[1] <= high for low, high in spans)
