"""The same program gets the same verdict, limits hold closely, and a lost node loses no submission."""

import os
import signal

import httpx

from tests.patience import PATIENCE
from tests.service.instance import running


def test_two_hundred_judgements_of_one_program_agree(judge):
    source = '#include <cstdio>\nint main(){int n;std::scanf("%d",&n);std::printf("%d",n*n);}'
    cases = [{"input": str(n), "answer": str(n * n if n % 7 else -1)} for n in range(1, 201)]
    results = [judge(language="cpp", source=source, cases=cases, parallel=4) for _ in range(2)]
    verdicts = [[case["verdict"] for case in result["cases"]] for result in results]
    assert verdicts[0] == verdicts[1] == ["AC" if n % 7 else "WA" for n in range(1, 201)]


def test_a_limit_of_a_second_holds_within_ten_milliseconds(judge):
    """Of the group's CPU time, however busy the cores are. Half of the cases may be unlucky."""
    result = judge(
        language="c", source="int main(){for(volatile int i=0;;)i++;}", cases=[{}] * 5,
        limits={"cpu_time": 1.0, "wall_time": 60.0}, parallel=1,
    )  # fmt: skip
    for case in result["cases"]:
        assert (case["verdict"], case["status"]) == ("TLE", "cpu_time_exceeded")
        assert case["cpu_time"] >= 1.0
    used = sorted(case["cpu_time"] for case in result["cases"])
    assert used[2] < 1.0 + 0.010 * PATIENCE, used


def test_a_submission_is_judged_anew_when_its_node_dies():
    with running("queue.lease=3") as service, httpx.Client(base_url=service.url) as api:
        answer = api.post(
            "/v1/submissions",
            json={"language": "python", "source": "import time\ntime.sleep(1)\nprint(1)",
                  "cases": [{"answer": "1"}] * 4, "parallel": 1},
            headers={"Prefer": "respond-async"},
        )  # fmt: skip
        location = answer.headers["location"]
        events = []
        with api.stream("GET", f"{location}/events", timeout=60) as stream:
            for line in stream.iter_lines():
                if line.startswith("event: "):
                    events.append(line.removeprefix("event: "))
                    if events.count("case") == 1 and "requeued" not in events:
                        os.kill(service.role("node"), signal.SIGKILL)
                        break
        service.wait_ready()
        with api.stream("GET", f"{location}/events", timeout=60) as stream:
            events = [x[7:] for x in stream.iter_lines() if x.startswith("event: ")]
        assert "requeued" in events
        result = api.get(location).json()["result"]
        assert (result["status"], result["verdict"]) == ("judged", "AC")
