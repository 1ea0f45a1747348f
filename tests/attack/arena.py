"""The real arena: a private service, the outside, and eyes on the host."""

import os
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from sandboxd.drivers.exec.cgroups.mounts import parse as parse_mounts
from tests.attack import outside
from tests.attack.arsenal import Arsenal
from tests.attack.case import Body, Lines
from tests.patience import PATIENCE
from tests.policies.seccomp_policy import verdict
from tests.service import host
from tests.service.instance import Service

_ANSWER_WITHIN = 100.0 * PATIENCE
_POISED_WITHIN = 60.0 * PATIENCE
_LOOK_EVERY = 0.01


class RealArena:
    def __init__(self, service: Service, arsenal: Arsenal) -> None:
        self.word = f"atk{service.instance}"
        self._service, self.arsenal = service, arsenal
        self._client = httpx.Client(
            base_url=service.url, timeout=_ANSWER_WITHIN, limits=httpx.Limits(max_connections=64)
        )
        self._requests = ThreadPoolExecutor(32)
        self._mounts = parse_mounts(Path("/proc/self/mountinfo").read_text())
        self.seen: set[str] = set()
        """Ids of finished runs: each ends once."""

    def close(self) -> None:
        self._requests.shutdown()
        self._client.close()

    def post(self, content: bytes, content_type: str) -> tuple[int, dict[str, Any]]:
        response = self._client.post(
            "/v1/runs", content=content, headers={"Content-Type": content_type}
        )
        assert self.arsenal.nonce not in response.text, "a secret came out"
        return response.status_code, response.json()

    def run(self, body: Body) -> dict[str, Any]:
        response = self._client.post("/v1/runs", json=body)
        assert self.arsenal.nonce not in response.text, "a secret came out"
        answer: dict[str, Any] = response.json()
        assert response.status_code == 200, answer
        self._ended_once(answer)
        return answer

    def _ended_once(self, answer: dict[str, Any]) -> None:
        """The record holds one terminal status, the one that was answered."""
        assert answer["id"] not in self.seen, "two answers for one run"
        self.seen.add(answer["id"])
        record = self._client.get(f"/v1/runs/{answer['id']}").json()
        assert record["state"] == "finished", record
        assert record["result"]["status"] == answer["status"], record

    def outside(self, argv: tuple[str, ...], *, network: bool = True, pids: bool = True) -> Lines:
        return outside.run(self.arsenal.outdoors, argv, network=network, pids=pids)

    def verdict(self, number: int, args: list[int]) -> str:
        answer = verdict(number, *args)
        return "ok" if answer == "success" else answer

    def poised(self, word: str, body: Body) -> "RealPoised":
        answer = self._requests.submit(self.run, body)
        deadline = time.monotonic() + _POISED_WITHIN
        while time.monotonic() < deadline and not answer.done():
            for pid in self._service.sandbox_processes():
                if word in host.argv(pid) and host.state(pid) == "T":
                    return RealPoised(pid, self._mounts.v1, self._mounts.v2, answer)
            time.sleep(_LOOK_EVERY)
        raise AssertionError(f"it never stopped itself: {answer.result()}")


class RealPoised:
    def __init__(
        self, pid: int, v1: dict[str, Path], v2: Path | None, answer: "Future[dict[str, Any]]"
    ) -> None:
        self._pidfd = os.pidfd_open(pid)
        self._v1, self._v2, self._answer = v1, v2, answer
        self._groups: dict[str, str] = {}
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for name in controllers.split(","):
                self._groups[name] = path

    def _read(self, controller: str, file: str) -> str:
        root = self._v1[controller] if controller else self._v2
        assert root is not None
        return (root / self._groups[controller].lstrip("/") / file).read_text().strip()

    def caps(self) -> dict[str, int]:
        if "memory" not in self._groups:
            quota, period = self._read("", "cpu.max").split()
            return {
                "memory": int(self._read("", "memory.max")),
                "pids": int(self._read("", "pids.max")),
                "cpu": int(quota) // int(period),
            }
        quota = self._read("cpu", "cpu.cfs_quota_us")
        return {
            "memory": int(self._read("memory", "memory.limit_in_bytes")),
            "pids": int(self._read("pids", "pids.max")),
            "cpu": int(quota) // int(self._read("cpu", "cpu.cfs_period_us")),
        }

    def release(self) -> None:
        signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)

    def result(self) -> dict[str, Any]:
        try:
            return self._answer.result(_ANSWER_WITHIN)
        finally:
            os.close(self._pidfd)
