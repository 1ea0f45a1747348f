from loadtest import network_runs
from loadtest.host import Clock
from loadtest.measurement import Measurement, Tally
from loadtest.workload import Workload


def measured(jobs: int, milliseconds: float, others: float) -> Measurement:
    tally = Tally()
    for _ in range(jobs):
        tally.right(int(milliseconds * 1e6))
    return tally.measurement(1.0, {"node": 0.002 * jobs, "others": others * jobs, "generator": 5.0})


def test_each_row_is_held_against_the_one_without_network_and_as_many_clients() -> None:
    asked = [Workload(name=name, title=name.upper(), stdout="", request={}) for name in ("a", "b")]
    results = {
        (name, clients, network): [measured(jobs * clients, 3.0, 0.001)]
        for name, times in (("a", 1), ("b", 2))
        for clients in (1, 8)
        for network, jobs in (("none", 100), ("internet", 100 - 10 * times))
    }
    found = [line for line in network_runs.lines(results, asked) if line]
    assert [line for line in found if line.endswith(":") and "|" not in line] == ["A:", "B:"]
    rows = [[word.strip() for word in line.split("|")[1:7]] for line in found if "net |" in line]
    assert [row[:4] for row in rows] == [
        ["internet", "1", "90.0", "90 %"],
        ["internet", "8", "720.0", "90 %"],
        ["internet", "1", "80.0", "80 %"],
        ["internet", "8", "640.0", "80 %"],
    ]
    assert {row[5] for row in rows} == {"3.00"}, (
        "the machine's other work counts, the generator's not"
    )


def test_a_machine_is_busy_with_what_is_neither_idle_nor_stolen() -> None:
    before = Clock(total=1_000, idle=400, stolen=10)
    after = Clock(total=1_400, idle=600, stolen=60)
    assert after.busy_since(before) == 1.5
