"""Run by `e2b` in an environment that has E2B's clients: seconds of each thing, as JSON on stdout."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx
from e2b.api.client_sync import get_transport
from e2b.connection_config import ConnectionConfig
from e2b_code_interpreter import Sandbox

PAUSE = 0.05
"""Seconds between sandboxes, in which the next ones are built."""


def timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def first_command(opened: list[Sandbox]) -> None:
    opened.append(Sandbox.create())
    if opened[-1].commands.run("echo hi").stdout != "hi\n":
        raise RuntimeError("a command answered something else")


def main() -> None:
    url, samples = sys.argv[1], int(sys.argv[2])
    found: dict[str, list[float]] = {}
    with httpx.Client(transport=get_transport(ConnectionConfig(), http_version="1.1")) as http:
        http.get(url)
        found["bare HTTP echo through the client's transport"] = [
            timed(lambda: http.get(url)) for _ in range(samples)
        ]
    firsts = []
    for _ in range(max(samples // 2, 5)):
        opened: list[Sandbox] = []
        firsts.append(timed(lambda: first_command(opened)))  # noqa: B023
        opened[0].kill()
        time.sleep(PAUSE)
    found["create to the first command's answer"] = firsts
    with Sandbox.create() as box:
        found["command in an open sandbox"] = [
            timed(lambda: box.commands.run("echo hi")) for _ in range(samples)
        ]
        box.run_code("x = 0")
        found["run_code in a live context"] = [
            timed(lambda: box.run_code("x += 1\nx")) for _ in range(samples)
        ]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
