"""Stored problems and files: packages are uploaded once and judged by id."""

import httpx
import pytest

from tests.judge.packages import DIFFERENT, GUESS, SCORED, encoded, packed

ZIP = {"content-type": "application/zip"}


def upload(api: httpx.Client, tree: dict[str, str]) -> dict:
    answer = api.post("/v1/problems", content=packed(tree), headers=ZIP)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/problems/{answer.json()['id']}"
    return answer.json()


@pytest.mark.parametrize("tree", [DIFFERENT, GUESS, SCORED], ids=["legacy", "2023-07", "scored"])
def test_every_example_of_a_package_is_judged_as_its_directory_says(api, judge, tree):
    from sandboxd.judge.package import load

    problem = upload(api, tree)
    for example in load(encoded(tree)).examples:
        if example.language is None:
            continue
        result = judge(
            language=example.language, source=example.source, problem=problem["id"],
            limits={"cpu_time": 1.0, "wall_time": 3.0},
        )  # fmt: skip
        assert result["verdict"] in example.expected, (example.path, result["cases"])
        if example.path.endswith("whole.py"):
            assert (result["score"], result["max_score"]) == (40, 100)
    assert api.delete(f"/v1/problems/{problem['id']}").status_code == 204


def test_a_problem_as_json_is_listed_read_and_forgotten(api, judge):
    body = {
        "title": "Echo",
        "cases": [{"input": "a", "answer": "a"}, {"input": {"base64": "Yg=="}, "answer": "b"}],
        "checker": {"type": "tokens"},
        "limits": {"cpu_time": 2.0},
    }
    answer = api.post("/v1/problems", json=body)
    assert answer.status_code == 201, answer.text
    problem = answer.json()
    assert (problem["cases"], problem["size"], problem["checker"]) == (2, 2, "tokens")
    assert problem["id"] in [x["id"] for x in api.get("/v1/problems").json()["problems"]]
    assert api.get(f"/v1/problems/{problem['id']}").json() == problem
    result = judge(language="python", source="print(input())", problem=problem["id"])
    assert result["verdict"] == "AC"
    assert api.delete(f"/v1/problems/{problem['id']}").status_code == 204
    assert api.get(f"/v1/problems/{problem['id']}").status_code == 404
    assert api.delete(f"/v1/problems/{problem['id']}").status_code == 404


def test_a_file_is_named_by_its_digest(api, judge):
    stored = api.post("/v1/files", content=b"7\n").json()
    assert stored["size"] == 2
    result = judge(
        language="python",
        source="print(input())",
        cases=[{"input": {"digest": stored["digest"]}, "answer": {"digest": stored["digest"]}}],
    )
    assert result["verdict"] == "AC"


@pytest.mark.parametrize(
    "tree",
    [
        {"../problem.yaml": "name: x"},
        {"problem.yaml": "name: x"},
        {**DIFFERENT, "problem.yaml": "validation: custom\n"}
        | {"output_validators/a.xyz": "?"},
        {**DIFFERENT, "problem.yaml": "limits: {memory: 999999}\n"},
    ],
)  # fmt: skip
def test_packages_that_cannot_be_judged_are_refused_on_upload(api, tree):
    answer = api.post("/v1/problems", content=packed(tree), headers=ZIP)
    assert answer.status_code == 422, answer.text


def test_a_bomb_is_refused(api):
    bomb = packed({**DIFFERENT, "data/secret/9.in": b"\0" * (64 << 20)})
    assert len(bomb) < 1 << 20
    answer = api.post("/v1/problems", content=bomb, headers=ZIP)
    assert (answer.status_code, "too large" in answer.text) == (422, True)
