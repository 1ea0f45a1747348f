"""Rules in the words of iptables: each becomes one line or several, of one family. Pure."""

from collections.abc import Iterator

import msgspec

from sandboxd.drivers.network import rules
from sandboxd.drivers.network.addresses import GROUPS
from sandboxd.drivers.network.firewall import PROXY_PORT, Layout
from sandboxd.drivers.network.rules import Cap, Mark, Match, Rule
from sandboxd.drivers.network.xtables import Line, Options, Part
from sandboxd.model.egress import Spans

_RATE_MAX, _BURST_MAX = 1_000_000, 10_000
"""What hashlimit counts to; a policy that allows more gets no more."""
_PORTS_MAX = 15
"""Of one multiport match; a range counts twice."""
_HAS_OPTIONS = "5,48 0 0 0,84 0 0 15,37 0 1 5,6 0 0 1,6 0 0 0"
"""A program on the IPv4 header: its length in words is above five."""


class Scribe:
    def __init__(self, layout: Layout) -> None:
        self._plan, self._reports = layout.plan, layout.reports
        self.groups = f"{layout.plan.group_base:#x}/{0xFFFF_FFFF & ~(GROUPS - 1):#x}"
        """All link groups of the instance, as value and mask."""

    def set_name(self, name: str, version: int) -> str:
        return f"{self._plan.prefix}-{name}{version}"

    def in_set(self, name: str, version: int) -> Part:
        return Part("set", {"match-set": [self.set_name(name, version), "src,dst,dst"]})

    def lines(self, rule: Rule, version: int, group: int) -> Iterator[Line]:
        for line in self._conditions(rule.match, version, group):
            if rule.match.cap is not None and rule.report:
                # A rate counts whenever it is asked: once, not for the report and the verdict.
                over = Part(f"{self._plan.prefix}-{self.over(rule)}")
                yield msgspec.structs.replace(line, target=over)
                continue
            if rule.report and self._reports:
                yield self._report(line, rule)
            yield from _verdicts(line, rule, version)

    def over(self, rule: Rule) -> str:
        """Name of the chain for packets that are beyond a cap."""
        return f"over-{rule.name}"

    def _report(self, line: Line, rule: Rule) -> Line:
        """Reports a packet, so many of each sandbox, and lets the next one decide."""
        rate = _rate(f"{self._plan.prefix[2:]}r", rules.REPORTS_BURST)
        few = Part("hashlimit", {"hashlimit-upto": f"{rules.REPORTS_RATE}/sec", **rate})
        target = Part("NFLOG", {"nflog-group": str(self._reports), "nflog-prefix": rule.report})
        return msgspec.structs.replace(line, target=target, matches=(*line.matches, few))

    def _conditions(self, match: Match, version: int, group: int) -> Iterator[Line]:
        """What is matched, as lines without a target."""
        nothing = Part("")
        if match.cap is not None:
            yield from self._cap(match.cap, version, group)
        elif match.flaw is not None:
            yield from (Line(nothing, (part,)) for part in _flaw(match.flaw, version))
        elif match.opened:
            yield from (
                Line(nothing, (self.in_set("opened", version),), protocol=protocol)
                for protocol in ("tcp", "udp")
            )
        elif match.proxied:
            states = Part("conntrack", {"ctstate": "DNAT"})
            port = Part("tcp", {"dport": str(PROXY_PORT)})
            router = self._plan.router4 if version == 4 else self._plan.router6
            yield Line(nothing, (states, port), destination=str(router), protocol="tcp")
        elif match.marked:
            of_mark: Options = {"ctstate": "ESTABLISHED,RELATED"}
            if match.reply:
                of_mark["ctdir"] = "REPLY"
            mark = Part("connmark", {"mark": f"{match.marked:#x}"})
            yield Line(nothing, (Part("conntrack", of_mark), mark))
        else:
            for line in _flows(match, version):
                if match.user:
                    owner = Part("owner", {"uid-owner": str(match.user)})
                    first = Part("conntrack", {"ctdir": "ORIGINAL"})
                    line = msgspec.structs.replace(line, matches=(owner, first, *line.matches))
                yield line

    def _cap(self, cap: Cap, version: int, group: int) -> Iterator[Line]:
        side = "dst" if cap.receiving else "src"
        nothing, new = Part(""), Part("conntrack", {"ctstate": "NEW"})
        if cap.kind == "bytes":
            name = self.set_name("bytes", version)
            yield Line(
                Part("SET", {"add-set": [name, side]}),
                (Part("set", {"!match-set": [name, side]}),),
            )
            yield Line(
                nothing, (Part("set", {"match-set": [name, side], "bytes-gt": str(cap.amount)}),)
            )
        elif cap.kind == "connections":
            bits = "32" if version == 4 else "128"
            count: Options = {
                "connlimit-above": str(cap.amount),
                "connlimit-mask": bits,
                "connlimit-saddr": "",
            }
            yield Line(nothing, (new, Part("connlimit", count)))
        else:
            amount = f"{min(cap.amount, _RATE_MAX)}/sec"
            rate = _rate(f"{self._plan.prefix[2:]}{cap.kind[0]}{group % GROUPS:x}", cap.amount)
            parts = (Part("hashlimit", {"hashlimit-above": amount, **rate}),)
            yield Line(nothing, (new, *parts) if cap.kind == "new" else parts)

    def jump(self, name: str, part: str, group: int) -> Line:
        """To the chain of that name, for packets from or to the group's devices."""
        side = "src-group" if part in ("sent", "policy") else "dst-group"
        return Line(Part(name), (Part("devgroup", {side: hex(group)}),))

    def resolving(self, version: int, group: int) -> list[Line]:
        router = self._plan.router4 if version == 4 else self._plan.router6
        of_group = Part("devgroup", {"src-group": hex(group)})
        return [
            Line(
                Part("ACCEPT"), (of_group, Part(protocol, {"dport": "53"})),
                destination=str(router), protocol=protocol, comment="resolver",
            )
            for protocol in ("tcp", "udp")
        ]  # fmt: skip

    def members(self, group: int) -> list[Line]:
        both = Part("devgroup", {"src-group": hex(group), "dst-group": hex(group)})
        return [Line(Part("ACCEPT"), (both,), comment="members")]


def _rate(name: str, burst: int) -> Options:
    """A bucket of `burst` for each source, those of one name in one table."""
    return {
        "hashlimit-burst": str(min(burst, _BURST_MAX)),
        "hashlimit-mode": "srcip",
        "hashlimit-htable-max": "65536",
        "hashlimit-htable-expire": "10000",  # ms; a full bucket by then
        "hashlimit-htable-gcinterval": "1000",
        "hashlimit-name": name,
    }


def _flaw(flaw: str, version: int) -> list[Part]:
    if flaw == "spoofed":
        return [Part("rpfilter", {"invert": ""})]
    if flaw == "invalid":
        return [Part("conntrack", {"ctstate": "INVALID"})]
    if version == 4:
        return [Part("bpf", {"bytecode": _HAS_OPTIONS})]
    return [
        Part("ipv6header", {"header": header, "soft": ""}) for header in ("hop", "route", "dst")
    ]


def _flows(match: Match, version: int) -> Iterator[Line]:
    ports = [Part("multiport", {"dports": text}) for text in _chunks(match.ports)]
    nets = [str(net) for net in match.nets if net.version == version]
    if match.nets and not nets:
        return
    for net in nets or [""]:
        none: list[tuple[Part, ...]] = [()]
        for parts in [(part,) for part in ports] or none:
            yield Line(Part(""), parts, destination=net, protocol=match.protocol or "")


def _chunks(spans: Spans) -> Iterator[str]:
    texts: list[str] = []
    room = _PORTS_MAX
    for low, high in spans:
        need = 1 if low == high else 2
        if need > room:
            yield ",".join(texts)
            texts, room = [], _PORTS_MAX
        texts.append(f"{low}" if low == high else f"{low}:{high}")
        room -= need
    if texts:
        yield ",".join(texts)


def _verdicts(line: Line, rule: Rule, version: int) -> Iterator[Line]:
    def to(name: str, *more: Part, protocol: str = line.protocol, **options: str) -> Line:
        target = Part(name, {key.replace("_", "-"): value for key, value in options.items()})
        return Line(
            target, (*line.matches, *more), line.source, line.destination, protocol, rule.name
        )

    if line.target.name:  # it does something by itself
        yield line
    elif isinstance(rule.verdict, Mark):
        yield to("CONNMARK", set_mark=f"{rule.verdict.mark:#x}")
        yield to("ACCEPT")
    elif rule.verdict == "refuse":
        if line.protocol in ("", "tcp"):
            begun = Part("tcp", {"!syn": ""})
            yield to("REJECT", begun, protocol="tcp", reject_with="tcp-reset")
        kind = "icmp-admin-prohibited" if version == 4 else "icmp6-adm-prohibited"
        yield to("REJECT", reject_with=kind)
    else:
        yield to(rule.verdict.upper())
