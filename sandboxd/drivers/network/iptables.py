"""The firewall by iptables, legacy tables of both families, for hosts without nftables.

The same rules as `nftables` writes: chains where that has maps, sets of the kernel (ipset) where that
has sets. Sources are checked before routing, in the raw table, the only place where rpfilter may be.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any, Literal

from pyroute2 import IPSet
from pyroute2.ipset import PortEntry
from pyroute2.netlink.exceptions import IPSetError, NetlinkError

from sandboxd.drivers.network import rules
from sandboxd.drivers.network.addresses import GROUPS, Addresses
from sandboxd.drivers.network.firewall import PROXY_PORT, Layout, Living, Opening
from sandboxd.drivers.network.floor import Address
from sandboxd.drivers.network.iptables_lines import Scribe
from sandboxd.drivers.network.rules import PolicyChains, Rule
from sandboxd.drivers.network.xtables import Line, Part, Step, Tables
from sandboxd.errors import DriverFault

_VERSIONS = (4, 6)
_PARTS = ("sent", "received", "policy", "replies")
_NAMES_MAX = 1 << 20
_STATE_MAX = 65_536


class IptablesFirewall:
    name = "iptables"
    lasting = False

    def __init__(self, layout: Layout) -> None:
        """For the network namespace of the calling thread. Raises DriverFault."""
        self._layout, self._plan = layout, layout.plan
        self._sets = IPSet()
        self._tables = [Tables(version) for version in _VERSIONS]
        self._scribe = Scribe(layout)
        self._hooked: dict[int, tuple[bool, bool]] = {}
        """Of each group that the fixed chains lead to: whether it has a resolver, and is a network."""

    def _chain(self, name: str) -> str:
        return f"{self._plan.prefix}-{name}"

    def install(self) -> None:
        self._clear()
        self._make_sets()
        for tables in self._tables:
            tables.change("raw", self._raw(tables.version))
            tables.change("filter", self._filter(tables.version))
            tables.change("nat", self._nat(tables.version))

    def resume(self, living: Collection[Living], slots: Collection[Addresses]) -> None:
        raise DriverFault(
            "network", "resume", "tables of both families do not change at one stroke"
        )

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
            steps = self._written(
                version,
                {
                    f"{part}-{group % GROUPS:x}": self._lines(version, getattr(chains, part), group)
                    for part in _PARTS
                },
            )
            steps += self._hook("delete", version, group, self._hooked.get(group))
            steps += self._hook("append", version, group, (chains.resolving, members))
            tables.change("filter", steps)
        self._hooked[group] = (chains.resolving, members)

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
        with _translated("open"):
            for opening in openings:
                self._sets.add(
                    self._set(opening), _key(opening), etype="ip,port,ip", exclusive=False,
                    family=_family(opening.sandbox.version), timeout=opening.ttl,
                )  # fmt: skip

    def _set(self, opening: Opening) -> str:
        return self._scribe.set_name(
            "proxied" if opening.proxied else "opened", opening.address.version
        )

    def forget(self, slot: Addresses, openings: Iterable[Opening]) -> None:
        with _translated("forget"):
            for opening in openings:
                self._sets.delete(
                    self._set(opening), _key(opening), etype="ip,port,ip", exclusive=False,
                    family=_family(opening.sandbox.version),
                )  # fmt: skip
            for address in (slot.ipv4, slot.ipv6):
                name = self._scribe.set_name("bytes", address.version)
                family = _family(address.version)
                self._sets.delete(name, str(address), exclusive=False, family=family)

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
        with _translated("remove sets"):
            for message in self._sets.list():
                name = message.get_attr("IPSET_ATTR_SETNAME")
                if name.startswith(self._plan.prefix):
                    self._sets.destroy(name)

    def _make_sets(self) -> None:
        with _translated("make sets"):
            for version in _VERSIONS:
                family = _family(version)
                for name in ("opened", "proxied"):
                    self._sets.create(
                        self._scribe.set_name(name, version), stype="hash:ip,port,ip",
                        family=family, timeout=60, maxelem=_NAMES_MAX,
                    )  # fmt: skip
                self._sets.create(
                    self._scribe.set_name("bytes", version), stype="hash:ip", family=family,
                    counters=True, maxelem=_STATE_MAX,
                )  # fmt: skip

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


def _key(opening: Opening) -> Any:
    port = PortEntry(opening.port, protocol=6 if opening.protocol == "tcp" else 17)
    return (str(opening.sandbox), port, str(opening.address))


def _family(version: int) -> int:
    return 2 if version == 4 else 10


class _translated:  # noqa: N801  (reads as a function in `with`)
    def __init__(self, operation: str) -> None:
        self._operation = operation

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, (IPSetError, NetlinkError, OSError)):
            raise DriverFault("network", f"ipset: {self._operation}", str(error)) from error
