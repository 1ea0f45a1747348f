"""The command line.

Exit code: 0 every answer was right, 1 some were not, 2 it could not run, 130 and 143 interrupted.
"""

import argparse
import asyncio
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import uvloop

from loadtest import (
    bench,
    cell,
    curve,
    document,
    e2b,
    growth,
    headline,
    host,
    idle,
    judge,
    memory,
    peers,
    plot,
    report,
    run,
    scenario,
    service,
    sessions,
    spread,
    workload,
)
from loadtest.curve import Curve
from loadtest.http1 import ExchangeError
from loadtest.peers import wire
from loadtest.peers.http import HttpPeer, Server

_FAULTS = (
    bench.BrokenPeerError, peers.PeerError, scenario.ScenarioError, service.ServiceError,
    workload.BuildError, ExchangeError, ProcessLookupError, judge.WrongVerdictError,
    document.NoResultsError, headline.NoBlockError, curve.BrokenError,
)  # fmt: skip

T = TypeVar("T")
_PARTS = ("compiled", "python", "judge", "sessions", "e2b")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if unfit := _unfit(options):
        _say(unfit)
        return 2
    options.command = _command(sys.argv[1:] if arguments is None else arguments)
    try:
        return uvloop.run(_until_terminated(options.verb(options)))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    except _FAULTS as error:
        _say(str(error))
        return 2


def _unfit(options: argparse.Namespace) -> str | None:
    """What would only come out after minutes of measuring, or as a traceback."""
    if options.verb in (_network, _images) and os.geteuid() != 0:
        return "needs root"
    out = getattr(options, "out", None)
    if out is None or options.verb is _report:
        return None
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{out}: {error.strerror}"
    return None if os.access(out, os.W_OK) else f"{out}: may not be written to"


def _command(arguments: list[str]) -> str:
    """Without the place of the results and without URLs: reports name neither."""
    kept, words = list[str](), iter(arguments)
    for word in words:
        if word.partition("=")[0] in ("--out", "--url", "--peer"):
            if "=" not in word:
                next(words, None)
        else:
            kept.append(word)
    return shlex.join(["python", "-m", "loadtest", *kept])


async def _until_terminated(verb: Coroutine[None, None, int]) -> int:
    """SIGTERM unwinds as SIGINT does, so that no private service is left behind."""
    task = asyncio.ensure_future(verb)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest", description=__doc__)
    parser.set_defaults(command=_command([]))
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    standard = verbs.add_parser("bench", help="service and peers side by side, closed loop")
    standard.set_defaults(verb=_bench)
    standard.add_argument("--quick", action="store_true", help="under 40 s instead of 5 min")
    standard.add_argument("--rounds", type=_told(_count))
    standard.add_argument("--seconds", type=_told(_seconds), help="of one cell in one round")
    standard.add_argument("--clients", type=_told(_counts), help="for example 1,2,8,32")
    standard.add_argument("--workloads", type=_among(_PARTS), default=_PARTS)
    standard.add_argument(
        "--local", type=_among(peers.LOCAL), default=tuple(peers.LOCAL), metavar="NAMES",
        help="peers of this machine; those that are not installed are left out",
    )  # fmt: skip
    standard.add_argument(
        "--peer", type=_told(wire.peer), action="append", default=[], metavar="KIND=URL", dest="asked",
        help=f"a service to measure beside ours, any number: {', '.join(wire.KINDS)}",
    )  # fmt: skip
    standard.add_argument("--out", type=Path, default=Path("build/bench"), metavar="DIR")

    rate = verbs.add_parser("run", help="a scenario, open loop")
    rate.set_defaults(verb=_run)
    rate.add_argument("--scenario", type=Path, required=True, metavar="FILE")
    rate.add_argument("--rate", type=_told(_seconds), help="jobs per second, instead of the file's")
    rate.add_argument("--seconds", type=_told(_seconds), help="instead of the file's")
    rate.add_argument("--out", type=Path, metavar="DIR", help="write the table there too")

    net = verbs.add_parser(
        "network", help="what a network costs, in namespaces of its own; as root"
    )
    net.set_defaults(verb=_network)
    net.add_argument("--rounds", type=_told(_count), default=3)
    net.add_argument("--seconds", type=_told(_seconds), default=1.5, help="of one measurement")
    net.add_argument("--out", type=Path, default=Path("build/bench"), metavar="DIR")

    layers = verbs.add_parser("images", help="roots, snapshots, pulls and shared pages; root only")
    layers.set_defaults(verb=_images)
    layers.add_argument("--rounds", type=_told(_count), default=20)
    layers.add_argument("--sandboxes", type=_told(_count), default=1_000)
    layers.add_argument("--megabytes", type=_told(_count), default=200, help="of the image to pull")
    layers.add_argument("--out", type=Path, default=Path("build/bench"), metavar="DIR")

    apart = verbs.add_parser("spread", help="one program's times beside neighbours; as root")
    apart.set_defaults(verb=_spread)
    apart.add_argument("--cases", type=_told(_count), default=100)

    growing = verbs.add_parser(
        "growth", help="cost and latency against jobs, sandboxes, clients, queue"
    )
    growing.set_defaults(verb=_growth)
    growing.add_argument("--full", action="store_true", help="to 10^5 jobs; half an hour")
    growing.add_argument(
        "--curve", type=_among(growth.CURVES), default=tuple(growth.CURVES), metavar="NAMES",
        help=f"some of {', '.join(growth.CURVES)}; the others stay in the report as they are",
    )  # fmt: skip
    growing.add_argument("--out", type=Path, default=Path("build/bench"), metavar="DIR")

    whole = verbs.add_parser(
        "report", help="one Markdown and one HTML file of a directory's results"
    )
    whole.set_defaults(verb=_report)
    whole.add_argument("--out", type=Path, default=Path("build/bench"), metavar="DIR")
    whole.add_argument("--readme", type=Path, metavar="FILE", help="write the headline table there")

    for verb in (standard, rate):
        verb.add_argument(
            "--url", type=_told(Server.of), help="a running service; else a private one"
        )
        verb.add_argument(
            "--service-pid", type=_told(_count), help="its first process, to split the CPU"
        )
    return parser


async def _images(options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="sandboxd-bench-") as directory:
        Path(directory).chmod(0o711)
        from loadtest import images  # which brings the node's drivers along

        lines = images.main(
            Path(directory),
            rounds=options.rounds,
            sandboxes=options.sandboxes,
            megabytes=options.megabytes,
        )
    _write_lines(lines, options.out, "images.md")
    return 0


async def _spread(options: argparse.Namespace) -> int:
    print("\n".join(await spread.main(options.cases)))
    return 0


def _write_lines(lines: list[str], out: Path, name: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / name).write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


async def _bench(options: argparse.Namespace) -> int:
    given = {
        name: value
        for name in ("rounds", "seconds", "clients")
        if (value := getattr(options, name)) is not None
    }
    plan = msgspec.structs.replace(bench.QUICK if options.quick else bench.Plan(), **given)
    facts, clock = host.facts(), host.Clock.read()
    notes: list[str] = []
    refused = 0

    def note(text: str) -> None:
        notes.append(text)
        _say(text)

    with (
        tempfile.TemporaryDirectory(prefix="sandboxd-loadtest-") as directory,
        ExitStack() as cleanup,
    ):
        programs = workload.build(Path(directory))
        known = workload.workloads(programs)
        chosen = [known[name] for name in options.workloads if name in known]
        async with _service(options) as (server, pid):
            if chosen:
                ours = HttpPeer("sandboxd", "this service over HTTP on loopback", server, pid)
                beside = [
                    *peers.local(programs, cleanup, note, options.local),
                    *options.asked,
                    ours,
                ]
                sound = await bench.warm_up(beside, chosen, ours, note)
                results = await bench.measure(sound, chosen, plan, _say)
                held = await memory.measure(sound, ours, note) if os.geteuid() == 0 else []
            if "judge" in options.workloads:
                judging = judge.QUICK if options.quick else judge.Plan()
                go_judge = next((x.server for x in options.asked if x.name == "go-judge"), None)
                lines = await judge.main(server, Path(directory), judging, go_judge)
                _write_lines(lines, options.out, "judge.md")
            if "sessions" in options.workloads:
                sitting = sessions.QUICK if options.quick else sessions.Plan()
                rows = await sessions.measure(server, sitting, _say)
                rows += await idle.measure(server, sitting, pid)
                _write_lines(sessions.markdown(rows), options.out, "sessions.md")
                refused = sum(row.failed for row in rows)
            if "e2b" in options.workloads:
                sitting = sessions.QUICK if options.quick else sessions.Plan()
                rows = await e2b.measure(server, sitting, _say)
                _write_lines(sessions.markdown(rows, "E2B's client"), options.out, "e2b.md")
    if refused:
        return 1
    if not chosen:
        return 0
    made = report.Report(
        host=facts,
        plan=plan,
        workloads={item.name: item.title for item in chosen},
        peers={peer.name: peer.about for peer in sound},
        compiler=programs.compiler,
        command=options.command,
        stolen=host.Clock.read().stolen_since(clock),
        notes=notes,
        cells=cell.cells(results),
        memory=held,
    )
    _write(made, options.out)
    return 1 if made.errors else 0


async def _growth(options: argparse.Namespace) -> int:
    options.out.mkdir(parents=True, exist_ok=True)
    known = {each.name: each for each in curve.read(options.out / "growth.json")}
    made = f"`{options.command}`; {host.facts().line}"

    def keep(measured: Curve) -> None:
        known[measured.name] = msgspec.structs.replace(measured, made=made)
        curves = [known[name] for name in growth.CURVES if name in known]
        curve.write(curves, options.out / "growth.json")
        plot.growth(curves, options.out / "growth.svg")
        text = "\n".join(curve.markdown(curves, "growth.svg")) + "\n"
        (options.out / "growth.md").write_text(text)
        last = f"{measured.points[-1].size:,}" if measured.points else "nothing"
        _say(f"growth: {measured.title}: {measured.broken or last}")

    with tempfile.TemporaryDirectory(prefix="sandboxd-loadtest-") as directory:
        place = Path(directory)
        place.chmod(0o755)  # the gateway reads the policies that are made there
        programs = workload.workloads(workload.build(place))
        plan = growth.FULL if options.full else growth.Plan()
        await growth.measure(options.curve, programs["compiled"], place, plan, keep)
    print((options.out / "growth.md").read_text())
    return 1 if any(known[name].broken for name in options.curve) else 0


async def _report(options: argparse.Namespace) -> int:
    document.write(options.out)
    if options.readme:
        made = headline.read(options.out / "bench.json")
        options.readme.write_text(headline.replaced(options.readme.read_text(), made))
    return 0


async def _network(options: argparse.Namespace) -> int:
    from loadtest import network  # which brings the node's drivers along

    lines, errors = await asyncio.to_thread(network.run, options.rounds, options.seconds)
    _write_lines(lines, options.out, "network.md")
    for error in errors:
        _say(error)
    return 1 if errors else 0


def _write(made: report.Report, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    plot.write(made, out / "bench.svg")
    text = report.markdown(made, "bench.svg")
    (out / "bench.md").write_text(text)
    (out / "bench.json").write_bytes(report.json(made))
    print(text)
    for found in made.cells:
        for kind, example in found.examples.items():
            _say(f"{found.workload}, {found.peer}, {found.clients} clients: {kind}: {example}")


async def _run(options: argparse.Namespace) -> int:
    plan = scenario.read(options.scenario)
    given = {name: value for name in ("rate", "seconds") if (value := getattr(options, name))}
    plan = msgspec.structs.replace(plan, **given)
    with tempfile.TemporaryDirectory(prefix="sandboxd-loadtest-") as directory:
        known = workload.workloads(workload.build(Path(directory)))
        async with _service(options) as (server, pid):
            server = msgspec.structs.replace(server, timeout=plan.timeout)
            outcome = await run.run(plan, server, pid, known)
    text = run.markdown(plan, outcome)
    print(text)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / f"{plan.name}.md").write_text(text)
    for kind, example in outcome.total.examples.items():
        _say(f"{kind}: {example}")
    return 1 if outcome.total.failed else 0


@asynccontextmanager
async def _service(options: argparse.Namespace) -> AsyncIterator[tuple[Server, int | None]]:
    """The one at --url, with the key in SANDBOXD_API_KEY if there is one, or a private one."""
    if options.url:
        key = os.environ.get("SANDBOXD_API_KEY")
        yield msgspec.structs.replace(options.url, key=key), options.service_pid
    else:
        async with service.private() as started:
            yield started.server, started.pid


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{text}: expected a whole number, at least 1")
    return int(text)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(word) for word in text.split(","))


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 86_400:
        raise ValueError(f"{text}: expected a number above 0 and at most 86400")
    return number


def _told(parse: Callable[[str], T]) -> Callable[[str], T]:
    """With the words of its ValueError, which argparse would keep to itself."""

    def told(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return told


def _among(known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """Parses names with commas between them."""

    def parse(text: str) -> tuple[str, ...]:
        words = tuple(text.split(","))
        if not set(words) <= set(known):
            raise argparse.ArgumentTypeError(f"some of {', '.join(known)}")
        return words

    return parse


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
