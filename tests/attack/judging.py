"""The kinds of cases. Each compares what happened inside with the policy and with the outside."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.attack.case import HELD, Arena, Body, Finding, broken, errno_name, known, probe, vacuous
from tests.attack.outside import parse
from tests.matrix.case import Expect
from tests.matrix.compare import differences

SPREAD = 3.0
"""How much more CPU time a neighbour may be charged for the same work while caches are fought over."""
SLACK = 0.15
_OUT_OF_TIME = ("ok", "cpu_time_exceeded", "wall_time_exceeded")
"""How a flood ends that did not come to its caps; one that has none there ends so the second time too."""


def said(answer: dict[str, Any]) -> dict[str, str]:
    """The probe's lines. Raises AssertionError if it did not end by itself."""
    assert answer["status"] == "ok", f"the probe ended with {answer['status']}: {answer['stderr']}"
    return dict(parse(answer["stdout"]))


@dataclass(frozen=True, slots=True)
class Call:
    """A call with impossible arguments: the errno is the policy's, and the kernel's is another."""

    name: str
    promise: str = "refused by the policy, before the kernel looks at it"
    theme: str = "kernel"

    @property
    def id(self) -> str:
        return f"call-{self.name}"

    def run(self, arena: Arena) -> Finding:
        inside = said(arena.run(probe("call", self.name)))
        number, *args = (int(word) for word in inside["call"].split())
        policy = arena.verdict(number, [value & (1 << 64) - 1 for value in args])
        got = errno_name(inside[self.name])
        if policy in ("allow", "kill") or got != policy:
            return broken(f"the policy says {policy}, the call answered {got}")
        outside = errno_name(arena.outside(("call", self.name))[self.name])
        if outside == got:
            return vacuous(f"the host answers {got} as well")
        return HELD


@dataclass(frozen=True, slots=True)
class Sweep:
    """Every number from `first` to `last`, compared with the policy."""

    first: int
    last: int
    promise: str = "every number is answered as the policy says"
    theme: str = "kernel"

    @property
    def id(self) -> str:
        return f"sweep-{self.first}-{self.last}"

    def run(self, arena: Arena) -> Finding:
        argv = ("sweep", str(self.first), str(self.last))
        limits = {"wall_time": 60, "cpu_time": 30}
        inside = said(arena.run(probe(*argv, limits=limits)))["results"].split()
        outside = arena.outside(argv)["results"].split()
        assert len(inside) == len(outside) == self.last - self.first + 1
        wrong, proved = [], 0
        for number, (in_, out) in enumerate(zip(inside, outside, strict=True), self.first):
            if number in _PASSED_BY:
                continue
            policy = arena.verdict(number, [(1 << 64) - 4096] * 6)
            answers = {"allow": None, "kill": "signal 31"}.get(policy, policy)
            if answers is not None and _end(in_) != answers:
                wrong.append(f"{number}: {_end(in_)}, not {answers}")
            proved += answers is not None and in_ != out
        if wrong:
            return broken("; ".join(wrong))
        if not proved:
            return vacuous(
                "this kernel has none of these calls, or answers each as the policy does"
            )
        return HELD


_PASSED_BY = {335, 336}
"""uretprobe and uprobe: the kernel (since 6.14) asks no filter about them. They answer SIGILL and
ENXIO to everybody but the trampolines that it maps itself."""


def _end(result: str) -> str:
    value = int(result)
    if value >= 256:
        return f"signal {value - 256}"
    return errno_name(f"errno {value}") if value else "ok"


KINDS = (1, 2, 3, 4, 5, 6, 10, 1 | 0x800, 2 | 0x80000, 0x100001)
"""As in the probe: types, two with flags, one with a bit that the kernel ignores or refuses."""
_PROTOCOLS, _OUTSIDE_PROTOCOLS = 263, 3


@dataclass(frozen=True, slots=True)
class Family:
    """Sockets of one family, of every type and protocol."""

    number: int
    name: str
    promise: str = "no socket but of the listed families, types and protocols"
    theme: str = "sockets"

    @property
    def id(self) -> str:
        return f"sockets-{self.name}"

    def run(self, arena: Arena) -> Finding:
        inside = self._results(said(arena.run(probe("sockets", str(self.number), str(_PROTOCOLS)))))
        outside = self._results(
            arena.outside(("sockets", str(self.number), str(_OUTSIDE_PROTOCOLS)))
        )
        denied = proved = 0
        for (kind, protocol), got in inside.items():
            policy = arena.verdict(41, [self.number, kind, protocol, 0, 0, 0])
            if policy == "allow":
                continue
            if got != policy:
                return broken(f"type {kind:#x}, protocol {protocol}: {got}, not {policy}")
            denied += 1
            proved += (kind, protocol) in outside and outside[kind, protocol] != got
        if denied and not proved:
            return vacuous("this kernel refuses the family as the policy does")
        return HELD

    @staticmethod
    def _results(lines: Any) -> dict[tuple[int, int], str]:
        rows = [text.split() for key, text in lines.items() if key.startswith("results")]
        return {
            (kind, protocol): _end(value)
            for kind, row in zip(KINDS, rows, strict=True)
            for protocol, value in enumerate(row)
        }


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that works where one has the power, and must not work here."""

    name: str
    promise: str
    theme: str
    command: str = "deed"
    network: bool = True
    alone: str = ""
    """Why one layer is all that can stop it, so that it is no core case; of those, two have to."""
    keep: tuple[str, ...] = ()
    """Layers that it is about, which stay when others are left out."""
    capability: int | None = None
    """A capability that the service itself needs for it."""

    @property
    def id(self) -> str:
        return self.name.replace("_", "-")

    @property
    def argv(self) -> tuple[str, ...]:
        return (self.command, self.name)

    def possible(self) -> bool:
        return self.capability is None or bool(_own_capabilities() >> self.capability & 1)

    def failed(self, value: str | None) -> bool:
        """Whether the attack failed. It may have been killed before it could say anything."""
        return value != "ok"

    def run(self, arena: Arena) -> Finding:
        if not self.possible():
            return vacuous(f"root has no capability {self.capability} on this host")
        inside = said(arena.run(probe(*self.argv)))[self.name]
        if not self.failed(inside):
            return broken("it worked")
        outside = arena.outside(self.argv, network=self.network)[self.name]
        if self.failed(outside):
            return vacuous(f"it does not work outside either: {errno_name(outside)}")
        return HELD


def _own_capabilities() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("CapEff:\t")[1].split()[0], 16)


@dataclass(frozen=True, slots=True)
class View:
    """What a job sees is exactly this, and the host shows something else."""

    name: str
    promise: str
    safe: tuple[str, ...]
    theme: str
    body: Body = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"view-{self.name.replace('_', '-')}"

    def run(self, arena: Arena) -> Finding:
        inside = said(arena.run(probe("view", self.name, **self.body)))[self.name]
        if inside not in self.safe:
            return broken(f"seen: {inside!r}")
        if arena.outside(("view", self.name), network=False, pids=False)[self.name] in self.safe:
            return vacuous("the host looks the same")
        return HELD


@dataclass(frozen=True, slots=True)
class Abi:
    """A call by another ABI ends the process."""

    name: str
    promise: str = "a call by a foreign ABI ends the process by SIGSYS"
    theme: str = "abi"

    @property
    def id(self) -> str:
        return f"abi-{self.name}"

    def run(self, arena: Arena) -> Finding:
        inside = said(arena.run(probe("abi", self.name)))[self.name]
        outside = arena.outside(("abi", self.name))[self.name]
        if inside == "signal 31":
            return HELD if outside != inside else vacuous("killed outside as well")
        if outside == inside and inside != "ok":
            return vacuous(f"this kernel does not have the ABI: {errno_name(inside)}")
        return broken(f"it answered {errno_name(inside)}")


@dataclass(frozen=True, slots=True)
class Channel:
    """One job holds an object, another seeks it: neither learns anything."""

    name: str
    promise: str
    theme: str = "channels"
    used_up: bool = False
    """The holder has ended when the seeker starts."""
    open_because: str = ""
    """Why it cannot be closed here. It must be open then."""

    @property
    def id(self) -> str:
        return f"{'residue' if self.used_up else 'channel'}-{self.name.replace('_', '-')}"

    def run(self, arena: Arena) -> Finding:
        word = f"{arena.word}-{self.id}"
        if self.used_up:
            said(arena.run(probe("channel", self.name, "plant", word)))
            sought = [
                said(arena.run(probe("channel", self.name, "seek", word)))["sought"]
                for _ in range(10)
            ]
            learned = "nothing"
        else:
            holder = arena.poised(word, probe("channel", self.name, "hold", word))
            try:
                sought = [said(arena.run(probe("channel", self.name, "seek", word)))["sought"]]
            finally:
                holder.release()
            learned = said(holder.result()).get("learned", "nothing")
        told = arena.outside(("channel", self.name, "both", word))
        by_seeker = "learned" not in told
        passed = (by_seeker and "found" in sought) or learned == "told"
        if passed and self.open_because:
            return known(self.open_because)
        if passed != bool(self.open_because):
            return broken(f"seeker: {sought}, holder: {learned}")
        if not (told["sought"] == "found" if by_seeker else told["learned"] == "told"):
            return vacuous(f"it does not work outside either: {dict(told)}")
        return HELD


@dataclass(frozen=True, slots=True)
class Bomb:
    """A flood, let go once its caps were read on the host; a neighbour works on meanwhile."""

    name: str
    promise: str
    ends: tuple[str, ...] = ("ok",)
    limits: Mapping[str, float] = field(default_factory=dict)
    most: int | None = None
    """The flood may count no further."""
    theme: str = "floods"

    @property
    def id(self) -> str:
        return f"flood-{self.name.replace('_', '-')}"

    def run(self, arena: Arena) -> Finding:
        limits = {"memory": 48 << 20, "pids": 64, "disk": 32 << 20, "cpu_time": 3.0,
                  "wall_time": 8.0, "output": 65_536, **self.limits}  # fmt: skip
        status, finding = self._once(arena, limits, seconds=2)
        if finding is not HELD and status in _OUT_OF_TIME and status not in self.ends:
            # The caps are what is tried here, and on a starved machine the clock comes before them.
            longer = {"cpu_time": 20.0, "wall_time": 60.0}
            _, finding = self._once(arena, limits | longer, seconds=40)
        return finding

    def _once(self, arena: Arena, limits: Mapping[str, float], seconds: int) -> tuple[str, Finding]:
        """The bomb's status, as far as it came, and what is to be said of it."""
        word = f"{arena.word}-{self.id}"
        calm = arena.run(NEIGHBOUR)["cpu_time"]
        bomb = arena.poised(word, probe("bomb", self.name, word, str(seconds), limits=limits))
        caps = bomb.caps()
        wanted = {"memory": limits["memory"], "pids": limits["pids"] + 1, "cpu": 1.0}
        if caps != wanted:
            return "", broken(f"not let go: its caps read {caps}, not {wanted}")
        bomb.release()
        beside = [arena.run(NEIGHBOUR) for _ in range(2)]
        answer = bomb.result()
        for neighbour in beside:
            if (neighbour["status"], neighbour["stdout"]) != ("ok", "20000\n"):
                return "", broken(f"the neighbour ended with {neighbour['status']}")
            if neighbour["cpu_time"] > calm * SPREAD + SLACK:
                return "", broken(
                    f"the neighbour's CPU time: {calm} alone, {neighbour['cpu_time']}"
                )
        if answer["status"] not in self.ends:
            told = f"ended with {answer['status']} ({answer.get('reason')})"
            return answer["status"], broken(told)
        counted = parse(answer["stdout"]).get(self.name) if answer["status"] == "ok" else None
        if self.most is not None and counted is not None and int(counted) > self.most:
            return answer["status"], broken(f"it counted {counted}, more than {self.most}")
        return answer["status"], HELD


NEIGHBOUR: Body = {
    "template": "default",
    "command": ["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo $i"],
}


@dataclass(frozen=True, slots=True)
class Program:
    """A run of whatever kind whose answer is right."""

    id: str
    promise: str
    body: Body
    expect: Expect | None
    """None: `check` says it all."""
    theme: str
    check: Callable[[dict[str, Any]], str] = lambda _: ""
    """What else is wrong with the answer, in words; empty if nothing."""

    def run(self, arena: Arena) -> Finding:
        answer = arena.run(self.body)
        wrong = differences(self.expect, answer) if self.expect is not None else []
        if found := self.check(answer):
            wrong.append(found)
        return broken("; ".join(wrong)) if wrong else HELD


@dataclass(frozen=True, slots=True)
class Document:
    """A hostile request: refused with a problem document, or run without harm."""

    id: str
    promise: str
    content: bytes
    statuses: tuple[int, ...]
    content_type: str = "application/json"
    theme: str = "requests"

    def run(self, arena: Arena) -> Finding:
        status, answer = arena.post(self.content, self.content_type)
        if status not in self.statuses:
            return broken(f"answered {status}: {str(answer)[:300]}")
        if status == 200 and answer["status"] == "internal_error":
            return broken(f"internal error: {answer.get('reason')}")
        if status >= 400 and "code" not in answer:
            return broken(f"no problem document: {str(answer)[:300]}")
        return HELD
