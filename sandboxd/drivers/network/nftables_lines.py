"""Rules in the words of nftables: each becomes one line or several, of both families. Pure."""

import re

from sandboxd.drivers.network import rules
from sandboxd.drivers.network.firewall import PROXY_PORT, Layout
from sandboxd.drivers.network.rules import Cap, Mark, Match, Rule
from sandboxd.model.egress import Spans

FAMILIES = ((4, "ip", "ipv4_addr"), (6, "ip6", "ipv6_addr"))
_FLAWS = {
    # Where would an answer go? Not to the device that this came from: the source is not its own.
    "spoofed": ["fib saddr . iif oif missing"],
    "options": ["ip hdrlength > 5", "exthdr hbh exists", "exthdr rt exists", "exthdr dst exists"],
    "invalid": ["ct state invalid"],
}
_ONLY_4, _ONLY_6 = re.compile(r"\bip "), re.compile(r"\bip6 |\bexthdr ")


class Scribe:
    def __init__(self, layout: Layout) -> None:
        self._layout, self._plan = layout, layout.plan

    def lines(self, of_chain: tuple[Rule, ...]) -> str:
        return "\n".join(self.texts(of_chain))

    def texts(self, of_chain: tuple[Rule, ...]) -> list[str]:
        texts = []
        for rule in of_chain:
            if rule.name not in self._layout.omit:
                for match in self._matches(rule.match):
                    if rule.match.cap is not None and rule.report:
                        # A rate counts whenever it is asked: once, not for the report and the verdict.
                        texts.append(f"{match} goto over_{rule.name}")
                        continue
                    texts += self._reports(match, rule)
                    texts += [
                        f'{condition} counter {verdict} comment "{rule.name}"'
                        for condition, verdict in _verdicts(match, rule)
                    ]
        return texts

    def _reports(self, condition: str, rule: Rule) -> list[str]:
        """Rules that report a packet, so many of each sandbox, and let the next one decide."""
        if not rule.report or not self._layout.reports:
            return []
        family_of = 6 if _ONLY_6.search(condition) else 4 if _ONLY_4.search(condition) else 0
        of_family = [(digit, word) for digit, word, _ in FAMILIES if family_of in (0, digit)]
        limit = f"limit rate {rules.REPORTS_RATE}/second burst {rules.REPORTS_BURST} packets"
        return [
            f"{condition} update @reported{digit} {{ {family} saddr {limit} }} "
            f'log prefix "{rule.report}" group {self._layout.reports}'
            for digit, family in of_family
        ]

    def _matches(self, match: Match) -> list[str]:
        """The condition; several where one text cannot say it."""
        if match.cap is not None:
            return [_cap(match.cap, digit, family) for digit, family, _ in FAMILIES]
        if match.flaw is not None:
            return _FLAWS[match.flaw]
        if match.opened:
            return [f"{flow_key(family)} @opened{digit}" for digit, family, _ in FAMILIES]
        if match.members or match.mates is not None:
            return self._of_one_network(match)
        routers = (f"ip daddr {self._plan.router4}", f"ip6 daddr {self._plan.router6}")
        if match.resolver:
            return [
                f"iifgroup @resolving {router} meta l4proto {{ tcp, udp }} th dport 53"
                for router in routers
            ]
        if match.proxied:
            return [f"ct status dnat {router} tcp dport {PROXY_PORT}" for router in routers]
        if match.marked:
            direction = "ct direction reply " if match.reply else ""
            return [f"ct state established,related {direction}ct mark {match.marked}"]
        flows = _flows(match)
        if match.user:
            return [f"meta skuid {match.user} ct direction original {flow}" for flow in flows]
        return flows

    def _of_one_network(self, match: Match) -> list[str]:
        if match.members:
            return ["iifgroup . oifgroup @members"]
        name, near, far = ("oifname", "iifgroup", "daddr")
        if match.mates == "from":
            name, near, far = ("iifname", "oifgroup", "saddr")
        return [
            f'{name} "{self._plan.overlay_device}" {near} . {family} {far} @mates{digit}'
            for digit, family, _ in FAMILIES
        ]


def _flows(match: Match) -> list[str]:
    ports = f"{match.protocol} dport {_ports(match.ports)}" if match.ports else ""
    if match.protocol and not match.ports:
        ports = f"meta l4proto {match.protocol}"
    if not match.nets:
        return [ports]
    texts = []
    for digit, family, _ in FAMILIES:
        nets = [str(net) for net in match.nets if net.version == digit]
        if nets:
            texts.append(f"{family} daddr {{ {', '.join(nets)} }} {ports}")
    return texts


def flow_key(family: str) -> str:
    return f"{family} saddr . meta l4proto . th dport . {family} daddr"


def _ports(spans: Spans) -> str:
    texts = [f"{low}" if low == high else f"{low}-{high}" for low, high in _joined(spans)]
    return f"{{ {', '.join(texts)} }}"


def _joined(spans: Spans) -> list[tuple[int, int]]:
    """Sorted, and without overlaps, which a set refuses."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return joined


def _cap(cap: Cap, digit: int, family: str) -> str:
    who = f"{family} {'daddr' if cap.receiving else 'saddr'}"
    beyond = {
        "packets": f"limit rate over {cap.amount}/second burst {cap.amount} packets",
        "new": f"limit rate over {cap.amount}/second burst {cap.amount} packets",
        "bytes": f"quota over {cap.amount} bytes",
        "connections": f"ct count over {cap.amount}",
    }[cap.kind]
    first = "ct state new " if cap.kind in ("new", "connections") else ""
    verb = "add" if cap.kind == "connections" else "update"
    return f"{first}{verb} @{cap.kind}{digit} {{ {who} {beyond} }}"


def _verdicts(condition: str, rule: Rule) -> list[tuple[str, str]]:
    verdict = rule.verdict
    if isinstance(verdict, Mark):
        return [(condition, f"ct mark set {verdict.mark} accept")]
    if verdict != "refuse":
        return [(condition, verdict)]
    # A connection that was open hears only a reset.
    begun = [(f"{condition} tcp flags & (syn | ack) != syn", "reject with tcp reset")]
    refused = [(condition, "reject with icmpx admin-prohibited")]
    return refused if rule.match.protocol == "udp" else begun + refused
