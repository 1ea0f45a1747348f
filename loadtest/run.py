"""Runs a scenario against a service and writes down what came of it."""

from collections.abc import Mapping

from msgspec import Struct

from loadtest import cpu, openloop
from loadtest.host import Host, facts
from loadtest.measurement import Measurement, Tally
from loadtest.peers.http import Server, with_service_cpu
from loadtest.report import table
from loadtest.scenario import Scenario, sequence
from loadtest.workload import Workload


class Outcome(Struct, frozen=True, kw_only=True):
    host: Host
    total: Measurement
    by_job: dict[str, Measurement]


async def run(
    scenario: Scenario, server: Server, service_pid: int | None, workloads: dict[str, Workload]
) -> Outcome:
    """Warm-up, then the measured pass. Raises ExchangeError if the service cannot be reached."""
    host = facts()
    pick = sequence(scenario, workloads)
    if scenario.warm_up:
        await openloop.measure(server.connect, pick, scenario.load(scenario.warm_up))
    tallies: dict[str, Tally] = {}
    before = cpu.read(service_pid) if service_pid else None
    load = scenario.load(scenario.seconds)
    total = await openloop.measure(server.connect, pick, load, tallies)
    total = await with_service_cpu(total, before, service_pid)
    by_job = {
        kind.name: tallies[kind.name].measurement(total.seconds, {})
        for kind in scenario.jobs
        if kind.name in tallies
    }
    return Outcome(host=host, total=total, by_job=by_job)


def markdown(scenario: Scenario, outcome: Outcome) -> str:
    host, total = outcome.host, outcome.total
    lines = [
        f"# Scenario {scenario.name}: {scenario.about}",
        "",
        f"* {host.date}, commit `{host.commit}`; {host.cpu}, {host.cores} cores, kernel "
        f"{host.kernel}, {host.system}; load average {host.load:.2f} at the start",
        f"* open loop: {scenario.rate:g} jobs/s for {scenario.seconds:g} s after a warm-up of "
        f"{scenario.warm_up:g} s; at most {scenario.max_in_flight} in flight; seed {scenario.seed}",
        f"* {total.per_second:.1f} right answers/s; the generator itself woke up "
        f"{total.lateness_ms:.2f} ms late at p99, which the latencies include",
        "",
        "Milliseconds from the intended start to the checked answer. Jobs that were given up count "
        "with the time until then; other failures are only among the errors.",
        "",
        *table(
            ["job", "samples", "p50", "p90", "p99", "p99.9", "max", "errors"],
            [_row(name, found) for name, found in {**outcome.by_job, "all": total}.items()],
        ),
        "",
    ]
    if total.cpu_ms_per_job:
        spent = total.cpu_ms_per_job
        lines += ["CPU milliseconds per job:", "", *table(["", *spent], [_cpu(spent)]), ""]
    return "\n".join(lines)


def _row(name: str, measured: Measurement) -> list[str]:
    times = [f"{measured.percentile_ms(percent):.2f}" for percent in (50, 90, 99, 99.9, 100)]
    if not measured.samples:
        times = ["-"] * len(times)
    elif measured.samples < 1000:
        times[3] = "-"
    errors = ", ".join(f"{count} x {kind}" for kind, count in measured.errors.items()) or "0"
    return [name, str(measured.samples), *times, errors]


def _cpu(spent: Mapping[str, float]) -> list[str]:
    return ["ms", *(f"{milliseconds:.2f}" for milliseconds in spent.values())]
