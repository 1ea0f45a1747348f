"""Submissions through the API of a real service: verdicts, limits, order, events."""

import json

import httpx
import pytest

SUM = "a, b = map(int, input().split())\nprint(a + b)\n"
CASES = [{"input": "1 2\n", "answer": "3\n"}, {"input": "5 5\n", "answer": "10\n"}]


def test_presentation_error_is_told_from_a_wrong_answer(judge):
    result = judge(
        language="python", source="print('1  2')", checker="exact", cases=[{"answer": "1 2\n"}]
    )
    assert result["verdict"] == "PE"


def test_time_is_the_whole_groups_and_a_limit_holds(judge):
    result = judge(
        language="python",
        source="import os\nos.fork()\nwhile True: pass",
        cases=[{}],
        limits={"cpu_time": 0.5, "wall_time": 20.0},
    )
    [case] = result["cases"]
    assert case["verdict"] == "TLE"
    assert case["status"] == "cpu_time_exceeded"
    assert case["cpu_time"] >= 0.5


def test_stop_on_failure_leaves_out_what_follows_in_order(judge):
    cases = [{"input": f"{n}\n", "answer": f"{n if n != 2 else 0}\n"} for n in range(6)]
    result = judge(
        language="python", source="print(input())", cases=cases, stop_on_failure=True, parallel=3
    )
    assert result["verdict"] == "WA"
    assert [case["verdict"] for case in result["cases"]] == ["AC", "AC", "WA", None, None, None]


def test_groups_score_and_require(judge):
    result = judge(
        language="python",
        source="n = int(input())\nprint(n if n < 3 else 0)",
        cases=[
            {"input": "1", "answer": "1", "group": "easy"},
            {"input": "2", "answer": "2", "group": "easy"},
            {"input": "3", "answer": "3", "group": "hard"},
            {"input": "9", "answer": "9", "group": "last"},
        ],
        groups=[
            {"name": "easy", "points": 30},
            {"name": "hard", "points": 70},
            {"name": "last", "points": 1, "requires": ["hard"]},
        ],
    )
    assert (result["verdict"], result["score"], result["max_score"]) == ("WA", 30, 101)
    assert [group["verdict"] for group in result["groups"]] == ["AC", "WA", None]


def test_outputs_come_on_request_and_are_cut(judge):
    request = {
        "language": "python",
        "source": "import sys\nprint('x' * 100)\nsys.stderr.write('why')",
        "cases": [{"answer": "no"}],
    }
    assert judge(**request)["cases"][0]["stdout"] is None
    case = judge(**request, outputs="failed", outputs_max=10)["cases"][0]
    assert (case["stdout"], case["stdout_truncated"]) == ("x" * 10, True)
    assert case["stderr"] == "why"
    assert "expected 'no'" in case["message"]


def test_identical_sources_compile_once_for_a_tenant(judge):
    source = "#include <stdio.h>\n/* one and the same */ int main(){puts(__TIME__);}"
    request = {"language": "c", "source": source, "cases": [{}], "outputs": "all"}
    first, second = judge(**request), judge(**request)
    assert first["cases"][0]["stdout"] == second["cases"][0]["stdout"]
    other = judge(**{**request, "compile_args": ["-O1"]})
    assert other["verdict"] == "AC"


def test_compile_error_says_what_the_compiler_said(judge):
    result = judge(language="c", source="int main( {", cases=[{}])
    assert result["verdict"] == "CE"
    assert "error" in result["compile"]["stderr"]
    assert result["cases"] == []


def test_each_case_has_a_sandbox_of_its_own(judge):
    source = """
import os
print(os.path.exists('/tmp/x'), sorted(os.listdir()))
open('/tmp/x', 'w')
open('y', 'w')
"""
    result = judge(language="python", source=source, cases=[{}] * 4, outputs="all", parallel=2)
    assert {case["stdout"] for case in result["cases"]} == {"False ['main.py']\n"}


def test_events_come_case_by_case(api):
    answer = api.post(
        "/v1/submissions",
        json={"language": "python", "source": SUM, "cases": CASES},
        headers={"Prefer": "respond-async"},
    )
    assert answer.status_code == 202
    location = answer.headers["location"]
    assert location == f"/v1/submissions/{answer.json()['id']}"
    events = []
    with api.stream("GET", f"{location}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                events.append(json.loads(line[6:]))
    assert [event["type"] for event in events] == [
        "queued", "leased", "started", "case", "case", "finished",
    ]  # fmt: skip
    assert {event["data"]["verdict"] for event in events if event["type"] == "case"} == {"AC"}
    record = api.get(location).json()
    assert record["state"] == "finished"
    assert record["result"]["verdict"] == "AC"


def test_a_submission_is_cancelled_while_it_runs(api):
    answer = api.post(
        "/v1/submissions",
        json={"language": "python", "source": "import time\ntime.sleep(60)", "cases": [{}] * 3,
              "limits": {"wall_time": 90}},
        headers={"Prefer": "respond-async"},
    )  # fmt: skip
    location = answer.headers["location"]
    with api.stream("GET", f"{location}/events") as stream:
        for line in stream.iter_lines():
            if line == "event: started":
                assert api.delete(location).status_code in (200, 202)
    result = api.get(location).json()["result"]
    assert (result["status"], result["verdict"]) == ("cancelled", None)


def test_runs_and_submissions_are_not_each_others(api):
    answer = api.post("/v1/submissions", json={"language": "python", "source": "", "cases": [{}]})
    submission = answer.json()["id"]
    assert api.get(f"/v1/runs/{submission}").status_code == 404
    assert api.get(f"/v1/submissions/run_{submission[4:]}").status_code == 404


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cases": []}, "cases"),
        ({"problem": "prob_" + "a" * 26}, "problem"),
        ({"cases": [{"group": "x"}]}, "groups"),
        ({"cases": [{"input": {"text": "a", "base64": ""}}]}, "cases.0.input"),
        ({"cases": [{"input": {"digest": "sha256:" + "0" * 64}}]}, "cases"),
        ({"checker": {"type": "program", "language": "nolang", "source": ""}}, "checker.language"),
        ({"checker": {"type": "program", "language": "c"}}, "checker.source"),
        ({"checker": "magic"}, "checker"),
        ({"limits": {"memory": 1 << 39}}, "limits.memory"),
        ({"callback": {"url": "http://127.0.0.1/x"}}, "callback.url"),
        ({"callback": {"url": "http://[::ffff:10.0.0.1]/x"}}, "callback.url"),
        ({"callback": {"url": "ftp://example.org/x"}}, "callback.url"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_field(api: httpx.Client, fields, field):
    body = {"language": "python", "source": "", "cases": [{}], **fields}
    if fields.get("problem"):
        del body["cases"]
    answer = api.post("/v1/submissions", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json().get("field") == field
