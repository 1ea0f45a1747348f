"""The firewall by iptables, legacy tables of both families, for hosts without nftables.

The same rules as `nftables` writes: chains where that has maps, sets of the kernel (ipset) where that
has sets. Sources are checked before routing, in the raw table, the only place where rpfilter may be.

A table of one family changes at one stroke, those of both families and the sets do not. So whatever is
there is replaced table by table, names that were opened are closed first, and a packet meets the former
rules or the new ones, never none.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Literal

from sandboxd.drivers.network import rules
from sandboxd.drivers.network.addresses import GROUPS, Addresses
from sandboxd.drivers.network.firewall import PROXY_PORT, Layout, Living, Opening
from sandboxd.drivers.network.floor import Address
from sandboxd.drivers.network.iptables_lines import Scribe
from sandboxd.drivers.network.iptables_sets import Sets
from sandboxd.drivers.network.rules import PolicyChains, Rule
from sandboxd.drivers.network.xtables import Line, Part, Step, Tables
from sandboxd.errors import DriverFault

_VERSIONS = (4, 6)
_PARTS = ("sent", "received", "policy", "replies")


class IptablesFirewall:
    name = "iptables"
    lasting = True

    def __init__(self, layout: Layout) -> None:
        """For the network namespace of the calling thread. Raises DriverFault."""
        self._layout, self._plan = layout, layout.plan
        self._scribe = Scribe(layout)
        self._sets = Sets(self._plan.prefix, self._scribe.set_name)
        self._tables = [Tables(version) for version in _VERSIONS]
        self._hooked: dict[int, tuple[bool, bool]] = {}
        """Of each group that the fixed chains lead to: whether it has a resolver, and is a network."""

    def _chain(self, name: str) -> str:
        return f"{self._plan.prefix}-{name}"

    def install(self) -> None:
        try:
            self._sets.make()
        except DriverFault:  # another version made them, whose rules are gone first
            self._clear()
            self._sets.make()
        self._write((), ())

    def resume(self, living: Collection[Living], slots: Collection[Addresses]) -> None:
        self._write(living, slots)

    def _write(self, living: Collection[Living], slots: Collection[Addresses]) -> None:
        """All rules, those of living groups with them, instead of what is there."""
        self._sets.empty(slots)
        self._hooked = {one.group: (one.chains.resolving, one.members) for one in living}
        for tables in self._tables:
            version = tables.version
            steps = {
                "raw": self._raw(version),
                "filter": self._filter(version),
                "nat": self._nat(version),
            }
            for one in living:
                steps["filter"] += self._group(version, one.group, one.chains)
                steps["filter"] += self._hook("append", version, one.group, self._hooked[one.group])
            for name, written in steps.items():
                tables.change(name, [Step("remove", self._chain("")), *written])

    def _raw(self, version: int) -> list[Step]:
        spoofed = [rule for rule in rules.SANE if rule.match.flaw == "spoofed"]
        return [
            *self._written(version, {"source": self._lines(version, spoofed)}),
            self._lead("PREROUTING", "source", self._from_ours()),
        ]

    def _filter(self, version: int) -> list[Step]:
        flaws = [rule for rule in rules.SANE if rule.match.flaw != "spoofed"]
        local = [rule for rule in rules.LOCAL if not rule.match.resolver]
        chains = {
            "sane": self._lines(version, flaws),
            "floor": self._lines(version, rules.floor_rules(self._layout.floor)),
            "refuse": self._lines(version, rules.REFUSE),
            **{self._scribe.over(rule): self._lines(version, (rule,)) for rule in rules.OVER},
            "local": self._lines(version, local),
            "inbound": self._lines(version, rules.INBOUND),
            "node": self._lines(version, rules.NODE_SENDS),
            "guard": self._lines(
                version,
                rules.guard_rules(self._layout.floor, self._layout.guard, self._layout.resolvers),
            ),
        }
        empty: dict[str, list[Line]] = {name: [] for name in ("members", "resolving")}
        empty |= {f"by-{part}": [] for part in _PARTS}
        ways = {
            "leaving": ("sane", "by-sent", "members", "floor", "by-policy", "refuse"),
            "arriving": ("by-received", "by-replies", "inbound"),
            "here": ("sane", "by-sent", "resolving", "local"),
            "told": ("node", "by-received"),
        }
        jumps = {
            way: [Line(Part(self._chain(name))) for name in names] for way, names in ways.items()
        }
        return [
            *self._written(version, {**empty, **chains, **jumps}),
            self._lead("FORWARD", "arriving", self._to_ours()),
            self._lead("FORWARD", "leaving", self._from_ours()),
            self._lead("INPUT", "here", self._from_ours()),
            self._lead("OUTPUT", "told", self._to_ours()),
            self._lead("OUTPUT", "guard"),
        ]

    def _nat(self, version: int) -> list[Step]:
        router = self._plan.router4 if version == 4 else self._plan.router6
        aim = f"{router}:{PROXY_PORT}" if version == 4 else f"[{router}]:{PROXY_PORT}"
        redirect = Line(
            Part("DNAT", {"to-destination": aim}),
            (self._from_ours(), self._scribe.in_set("proxied", version)),
            protocol="tcp",
        )
        masquerade = Line(
            Part("MASQUERADE"),
            (Part("devgroup", {"!dst-group": self._scribe.groups}),),
            source=str(self._plan.ipv4 if version == 4 else self._plan.ipv6),
        )
        chains = {"redirect": [redirect], "masquerade": [masquerade] if self._layout.nat else []}
        return [
            *self._written(version, chains),
            self._lead("PREROUTING", "redirect"),
            self._lead("POSTROUTING", "masquerade"),
        ]

    def _written(self, version: int, chains: dict[str, list[Line]]) -> list[Step]:
        """Steps that make these chains and then fill them, since they lead to each other."""
        return [Step("chain", self._chain(name)) for name in chains] + [
            Step("append", self._chain(name), tuple(lines)) for name, lines in chains.items()
        ]

    def _lead(self, hook: str, name: str, *matches: Part) -> Step:
        return Step("insert", hook, (Line(Part(self._chain(name)), matches),))

    def put(self, group: int, chains: PolicyChains, *, members: bool = False) -> None:
        for tables in self._tables:
            version = tables.version
            steps = self._group(version, group, chains)
            steps += self._hook("delete", version, group, self._hooked.get(group))
            steps += self._hook("append", version, group, (chains.resolving, members))
            tables.change("filter", steps)
        self._hooked[group] = (chains.resolving, members)

    def _group(self, version: int, group: int, chains: PolicyChains) -> list[Step]:
        """Steps that write the group's own chains."""
        return self._written(
            version,
            {
                f"{part}-{group % GROUPS:x}": self._lines(version, getattr(chains, part), group)
                for part in _PARTS
            },
        )

    def _hook(
        self,
        do: Literal["append", "delete"],
        version: int,
        group: int,
        wanted: tuple[bool, bool] | None,
    ) -> list[Step]:
        """Steps that lead the fixed chains to the group's, or do not any more."""
        if wanted is None:
            return []
        lines = {
            f"by-{part}": [
                self._scribe.jump(self._chain(f"{part}-{group % GROUPS:x}"), part, group)
            ]
            for part in _PARTS
        }
        if wanted[0]:
            lines["resolving"] = self._scribe.resolving(version, group)
        if wanted[1]:
            lines["members"] = self._scribe.members(group)
        return [Step(do, self._chain(name), tuple(found)) for name, found in lines.items()]

    def drop(self, group: int) -> None:
        for tables in self._tables:
            steps = self._hook("delete", tables.version, group, self._hooked.get(group))
            steps += [Step("drop", self._chain(f"{part}-{group % GROUPS:x}")) for part in _PARTS]
            tables.change("filter", steps)
        self._hooked.pop(group, None)

    def open(self, openings: Iterable[Opening]) -> None:
        self._sets.open(openings)

    def forget(self, slot: Addresses, openings: Iterable[Opening]) -> None:
        self._sets.forget(slot, openings)

    def connect(self, peers: Collection[Address], mates: Collection[tuple[int, Address]]) -> None:
        raise DriverFault("network", "connect to other nodes", "only nftables has rules for that")

    def dropped(self) -> dict[str, int]:
        found: Counter[str] = Counter()
        for tables in self._tables:
            for name in ("raw", "filter"):
                found.update(tables.count(name, self._chain("")))
        return dict(found)

    def remove(self) -> None:
        self._clear()
        self._sets.close()
        for tables in self._tables:
            tables.close()

    def _clear(self) -> None:
        for tables in self._tables:
            for name in ("raw", "filter", "nat"):
                tables.change(name, [Step("remove", self._chain(""))])
        self._sets.remove()

    def _lines(self, version: int, of_chain: Iterable[Rule], group: int = 0) -> list[Line]:
        return [
            line
            for rule in of_chain
            if rule.name not in self._layout.omit
            for line in self._scribe.lines(rule, version, group)
        ]

    def _from_ours(self) -> Part:
        return Part("devgroup", {"src-group": self._scribe.groups})

    def _to_ours(self) -> Part:
        return Part("devgroup", {"dst-group": self._scribe.groups})
