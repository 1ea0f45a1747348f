"""Stored problems and files: packages are uploaded once and judged by id."""

import contextlib
import io
import struct
import zipfile
import zlib
from pathlib import Path

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


def zip_of_zeros(name: str, size: int, tree: dict[str, str]) -> bytes:
    """An archive whose last file is that many zeros; megabytes of them are deflated once and repeated."""
    piece = zlib.compressobj(9, zlib.DEFLATED, -15)
    repeated = piece.compress(b"\0" * (1 << 20)) + piece.flush(zlib.Z_FULL_FLUSH)
    deflated = repeated * (size >> 20) + piece.flush()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in tree.items():
            archive.writestr(path, text)
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_STORED
        archive.writestr(info, deflated)
        # What was stored is declared to be deflated: the bytes are the same.
        info.compress_type, info.file_size = zipfile.ZIP_DEFLATED, size
    data = bytearray(out.getvalue())
    at = data.index(name.encode()) - 30
    struct.pack_into("<H", data, at + 8, zipfile.ZIP_DEFLATED)
    struct.pack_into("<I", data, at + 22, size)
    return bytes(data)


def resident(service) -> dict[str, int]:
    """Bytes of memory of each process of the service."""
    found = {}
    for role, pid in service.pids().items():
        status = Path(f"/proc/{pid}/status").read_text()
        found[role] = int(status.partition("VmRSS:")[2].split()[0]) * 1024
    return found


def test_a_case_of_a_gigabyte_is_refused_and_fills_nobody(api, service):
    """As a member of a package, as a file, and inline: the first bytes above the limit end it."""
    before = resident(service)
    size = 1 << 30
    bomb = zip_of_zeros("data/secret/9.in", size, DIFFERENT)
    assert len(bomb) < 4 << 20
    with zipfile.ZipFile(io.BytesIO(bomb)) as archive:  # it is what it claims to be
        assert archive.getinfo("data/secret/9.in").file_size == size
        with archive.open("data/secret/9.in") as source:
            assert source.read(10) == b"\0" * 10
    answer = api.post("/v1/problems", content=bomb, headers=ZIP)
    assert (answer.status_code, "too large" in answer.text) == (422, True)

    def gigabyte():
        for _ in range(size >> 20):
            yield b"x" * (1 << 20)

    for path in ("/v1/files", "/v1/problems", "/v1/submissions"):
        headers = {"content-type": "application/json", "content-length": str(size)}
        with contextlib.suppress(httpx.WriteError):  # the answer need not wait for the rest
            answer = api.post(path, content=gigabyte(), headers=headers)
            assert answer.status_code == 413, (path, answer.text)
    for role, now in resident(service).items():
        assert now < before[role] + (160 << 20), (role, before, now)


def test_a_program_that_writes_a_gigabyte_is_cut_at_its_limit(judge):
    result = judge(
        language="c", cases=[{"answer": "1"}], limits={"cpu_time": 5, "output": 1 << 20},
        source="#include <stdio.h>\nint main(){for(int i=0;i<1<<24;i++)fwrite"
        '("0123456789012345678901234567890123456789012345678901234567890123",64,1,stdout);}',
    )  # fmt: skip
    assert (result["verdict"], result["cases"][0]["status"]) == ("OLE", "output_exceeded")
