"""Runs scripts warm and cold, and keeps count of which path they took."""

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.warm.compare import Answer
from tests.warm.script import Script

AT_ONCE = 4
COLD = {"LANG": "C.UTF-8"}
"""Sends a run to a cold start and changes nothing: every run has this variable with this value."""

Pair = tuple[Answer, Answer]


class Comparison:
    def __init__(
        self,
        client: httpx.Client,
        language: str,
        ready: int,
        until_full: Callable[["Comparison"], None],
    ) -> None:
        self._client, self._until_full = client, until_full
        self.language, self.ready = language, ready
        self.runs = self.cold = 0
        """Runs so far, and those of them that must have gone cold."""

    def pairs(self, scripts: list[Script]) -> dict[str, Pair]:
        """The warm and the cold answer of each, by its id; at most `ready` scripts."""
        self._until_full(self)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            warm = list(threads.map(self._warm, scripts))
            cold = list(threads.map(self._cold, scripts))
        self._count(warm, cold=[not script.warm for script in scripts])
        self._count(cold, cold=[True] * len(cold))
        return {script.id: (a, b) for script, a, b in zip(scripts, warm, cold, strict=True)}

    def run(self, script: Script) -> Answer:
        """The answer of one run, warm if the script may be."""
        self._until_full(self)
        answer = self._warm(script)
        self._count([answer], cold=[not script.warm])
        return answer

    def _warm(self, script: Script) -> Answer:
        return self._post(script.request())

    def _cold(self, script: Script) -> Answer:
        return self._post(script.request(**COLD))

    def _post(self, request: dict[str, Any]) -> Answer:
        answer: Answer = self._client.post("/v1/runs", json=request).json()
        return answer

    def _count(self, answers: list[Answer], *, cold: list[bool]) -> None:
        ran = ["id" in answer for answer in answers]
        self.runs += sum(ran)
        self.cold += sum(was_run and was_cold for was_run, was_cold in zip(ran, cold, strict=True))

    def counted(self, pattern: str) -> float:
        """Sum of the node's announced metrics that match."""
        text = self._client.get("/metrics").text
        return sum(float(value) for value in re.findall(rf"(?m)^{pattern} (\S+)$", text))

    def counted_cold(self) -> int:
        """How many runs the node says went cold. Raises TimeoutError if it does not tell of all."""
        deadline = time.monotonic() + 20
        while self.counted(r"sandboxd_node_runs_\w+_total{.*}") < self.runs:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the node has not announced {self.runs} runs")
            time.sleep(0.05)
        return int(self.counted("sandboxd_node_cold_claims_total{.*}"))


class Pairs:
    """The pairs of a known list of scripts, run in batches as they are asked for."""

    def __init__(self, comparison: Comparison, scripts: list[Script]) -> None:
        unique = list({script.id: script for script in scripts}.values())
        size, self._comparison = comparison.ready, comparison
        self._batches = [unique[at : at + size] for at in range(0, len(unique), size)]
        self._found: dict[str, Pair] = {}

    def of(self, script: Script) -> Pair:
        if script.id not in self._found:
            batch = next(batch for batch in self._batches if script in batch)
            self._found |= self._comparison.pairs(batch)
        return self._found[script.id]
