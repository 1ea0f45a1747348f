"""How services of other kinds are asked for the two hellos. Each speaks plain HTTP; the facts are of
their own documentation."""

import base64
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from loadtest.job import Check, Job, OneShot, Wire, excerpt
from loadtest.measurement import Failure
from loadtest.peers.http import job_of
from loadtest.peers.peer import PeerError
from loadtest.workload import DEBIAN_PYTHON, Workload

Path = tuple[str | int, ...]
"""Keys and indices that lead to a value in JSON."""
Found = Mapping[Path, object]
"""What an answer must hold, by where."""


class Dialect(Struct, frozen=True, kw_only=True):
    about: str
    workloads: tuple[str, ...]
    """Names of those that it can be asked for."""
    job: Callable[[Wire, Workload], Awaitable[Job]]
    """Prepares what the workload needs on the service. Raises ExchangeError, PeerError."""
    key_header: tuple[str, str] = ("Authorization", "Bearer {}")


async def _sandboxd(wire: Wire, workload: Workload) -> Job:
    return job_of(workload)


async def _piston(wire: Wire, workload: Workload) -> Job:
    body = {
        "language": "python", "version": "*",
        "files": [{"name": "main.py", "content": workload.request["source"]}],
    }  # fmt: skip
    found: dict[Path, object] = {("run", "code"): 0, ("run", "stdout"): workload.stdout}
    return _one_shot(workload, "/api/v2/execute", body, found)


_JUDGE0_PYTHON, _JUDGE0_EXECUTABLE, _JUDGE0_ACCEPTED = 71, 44, 3


async def _judge0(wire: Wire, workload: Workload) -> Job:
    if workload.name == "python":
        language, source = _JUDGE0_PYTHON, _base64(workload.request["source"].encode())
    else:
        language, source = _JUDGE0_EXECUTABLE, workload.request["files"]["hello"]["base64"]
    target = "/submissions?wait=true&base64_encoded=true&fields=token,stdout,status_id"
    found: dict[Path, object] = {
        ("status_id",): _JUDGE0_ACCEPTED,
        ("stdout",): _base64(workload.stdout.encode()),
    }
    body = {"language_id": language, "source_code": source}
    return _one_shot(workload, target, body, found, created=201, text=_unwrapped)


async def _go_judge(wire: Wire, workload: Workload) -> Job:
    command: dict[str, Any] = {
        "env": ["PATH=/usr/bin:/bin"], "cpuLimit": 1_000_000_000, "memoryLimit": 256 << 20,
        "procLimit": 50,
        "files": [{"content": ""}, {"name": "stdout", "max": 4096}, {"name": "stderr", "max": 4096}],
    }  # fmt: skip
    if workload.name == "python":
        command["args"] = [DEBIAN_PYTHON, "-I", "-S", "-c", workload.request["source"]]
    else:
        binary = base64.b64decode(workload.request["files"]["hello"]["base64"])
        kept = {"hello": {"fileId": await _upload(wire, binary)}}
        command |= {"args": ["./hello"], "copyIn": kept}
    found: dict[Path, object] = {(0, "status"): "Accepted", (0, "files", "stdout"): workload.stdout}
    return _one_shot(workload, "/run", {"cmd": [command]}, found)


async def _upload(wire: Wire, content: bytes) -> str:
    """The id of a file that go-judge keeps."""
    mark = "loadtest-of-sandboxd"
    head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="hello"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{mark}--\r\n".encode()
    status, answer = await wire.ask("POST", "/file", body, f"multipart/form-data; boundary={mark}")
    if status != 200:
        raise PeerError(f"go-judge keeps no file: {status} {excerpt(answer)}")
    return str(msgspec.json.decode(answer))


DIALECTS = {
    "sandboxd": Dialect(
        about="another sandboxd", workloads=("compiled", "python"), job=_sandboxd,
    ),
    "piston": Dialect(
        about="Piston, `POST /api/v2/execute`", workloads=("python",), job=_piston,
        key_header=("Authorization", "{}"),
    ),
    "judge0": Dialect(
        about="Judge0, `POST /submissions?wait=true`, executables as language 44",
        workloads=("compiled", "python"), job=_judge0, key_header=("X-Auth-Token", "{}"),
    ),
    "go-judge": Dialect(
        about="go-judge, `POST /run`, the program kept there as a file before",
        workloads=("compiled", "python"), job=_go_judge,
    ),
}  # fmt: skip


def _one_shot(
    workload: Workload,
    target: str,
    body: object,
    found: Found,
    created: int = 200,
    text: Callable[[object], object] = lambda value: value,
) -> OneShot:
    check: Check = partial(_check, found, created, text)
    return OneShot(name=workload.name, target=target, body=msgspec.json.encode(body), check=check)


def _check(
    wanted: Found,
    created: int,
    text: Callable[[object], object],
    status: int,
    answer: bytes,
) -> Failure | None:
    if status != created:
        return Failure(f"http_{status}", excerpt(answer))
    try:
        whole = msgspec.json.decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Failure("malformed", f"{error}: {excerpt(answer)}")
    for path, value in wanted.items():
        if text(_at(whole, path)) != value:
            return Failure(f"wrong_{path[-1]}", excerpt(answer))
    return None


def _at(whole: Any, path: Path) -> object:
    """None where nothing is."""
    for step in path:
        try:
            whole = whole[step]
        except (KeyError, IndexError, TypeError):
            return None
    return whole


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _unwrapped(value: object) -> object:
    """Judge0 breaks base64 into lines."""
    return value.replace("\n", "") if isinstance(value, str) else value
