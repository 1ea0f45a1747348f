"""python-iptables in a process of its own, one for each family: a request a line in, an answer a line
out.

The library wants it so. It keeps one object per table for the whole process, which belongs to the
network namespace of its last refresh; it takes no lock; it crashes under threads; it reads what it has
set by moving the process's standard output for a moment; libxtables below it registers the extensions
of one family only, and ends the process when it is unhappy. Its dictionaries drop what they do not
understand, which makes a rule wider, so that rules are built part by part here, and a table is read,
changed and committed as a whole.
"""

import ctypes
import fcntl
import os
import sys
from pathlib import Path
from typing import Any

import iptc
import msgspec

from sandboxd.drivers.network.xtables import Answer, Line, Part, Request, Step

_LOCK = Path("/run/xtables.lock")
"""Of the iptables programs."""
_scratch: dict[tuple[Any, ...], Any] = {}


def _lend_scratch(kind: Any) -> None:
    """Give extensions the memory of their own that they ask for. The library does so too, but frees it
    before they write there: NFLOG its prefix, hashlimit its units."""
    reset = kind.reset

    def lending(module: Any) -> None:
        reset(module)
        size = getattr(module._module, "udata_size", 0)  # of newer libraries
        if size:
            key = (module._module.name, module._module.family, size)
            lent = _scratch.setdefault(key, (ctypes.c_ubyte * size)())
            ctypes.memset(lent, 0, size)
            module._module.udata = ctypes.cast(lent, ctypes.c_void_p)

    kind.reset = lending


for _kind in (iptc.Match, iptc.Target):
    _lend_scratch(_kind)


def main(version: int, requests: Any, answers: Any) -> None:
    """Until the requests end."""
    for text in requests:
        request = msgspec.json.decode(text, type=Request)
        try:
            answer = Answer(packets=_serve(version, request))
        except (iptc.IPTCError, ValueError, AttributeError, TypeError, OSError) as error:
            answer = Answer(error=str(error) or type(error).__name__)
        answers.write(msgspec.json.encode(answer) + b"\n")
        answers.flush()


def _serve(version: int, request: Request) -> dict[str, int]:
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        table = (iptc.Table if version == 4 else iptc.Table6)(request.table)
        table.autocommit = False
        table.refresh()
        try:
            for step in request.steps:
                _take(table, version, step)
            if request.steps:
                table.commit()
            return _counted(table, request.count) if request.count else {}
        finally:
            table.refresh()


def _take(table: Any, version: int, step: Step) -> None:
    if step.do == "chain":
        if table.is_chain(step.chain):
            iptc.Chain(table, step.chain).flush()
        else:
            table.create_chain(step.chain)
    elif step.do == "remove":
        _remove(table, step.chain)
    elif step.do == "drop":
        iptc.Chain(table, step.chain).flush()
        table.delete_chain(step.chain)
    else:
        chain = iptc.Chain(table, step.chain)
        change = {
            "append": chain.append_rule,
            "insert": chain.insert_rule,
            "delete": chain.delete_rule,
        }[step.do]
        for line in step.lines:
            change(_built(line, version))


def _remove(table: Any, prefix: str) -> None:
    """Every chain whose name begins so, and the rules of others that lead there."""
    doomed = [chain for chain in table.chains if chain.name.startswith(prefix)]
    for chain in doomed:
        chain.flush()
    for chain in table.chains:
        for rule in chain.rules:
            if rule.target is not None and rule.target.name.startswith(prefix):
                chain.delete_rule(rule)
    for chain in doomed:
        table.delete_chain(chain.name)


def _counted(table: Any, prefix: str) -> dict[str, int]:
    """Packets of the rules that stop some, by their comment."""
    found: dict[str, int] = {}
    for chain in table.chains:
        if chain.name.startswith(prefix):
            for rule in chain.rules:
                if rule.target is not None and rule.target.name in ("DROP", "REJECT"):
                    names = [match.comment for match in rule.matches if match.name == "comment"]
                    for name in names:
                        found[name] = found.get(name, 0) + rule.get_counters()[0]
    return found


def _built(line: Line, version: int) -> Any:
    rule = iptc.Rule() if version == 4 else iptc.Rule6()
    if line.source:
        rule.src = line.source
    if line.destination:
        rule.dst = line.destination
    if line.protocol:
        rule.protocol = line.protocol
    for part in line.matches:
        _give(rule.create_match(part.name), part)
    if line.comment:
        rule.create_match("comment").comment = line.comment
    _give(rule.create_target(line.target.name), line.target)
    return rule


def _give(module: Any, part: Part) -> None:
    for key, value in part.options.items():
        if key.startswith("!"):
            value = f"!{value}" if isinstance(value, str) else ["!", *value]
        setattr(module, key.removeprefix("!").replace("-", "_"), value)


if __name__ == "__main__":
    # What the library prints is not to be read as an answer.
    answering = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    main(int(sys.argv[1]), sys.stdin.buffer, answering)
