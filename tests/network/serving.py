"""A service in `svc` whose policies a test names, and programs that look round inside its sandboxes."""

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from sandboxd.settings import Settings
from tests.network.world import NAMESERVER
from tests.patience import PATIENCE
from tests.service.instance import Service, running


@contextmanager
def serving(egress: Mapping[str, str], *settings: str) -> Iterator[Service]:
    """With the shipped policies, and these of networks (name -> TOML without the name)."""
    with tempfile.TemporaryDirectory(prefix="sandboxd-net-") as made:
        Path(made).chmod(0o755)
        policies = Path(made) / "policies"
        shutil.copytree(Settings().policy_path, policies)
        for name, text in egress.items():
            (policies / "egress" / f"{name}.toml").write_text(f'name = "{name}"\n{text}')
        with running(
            "network.enabled=true",
            f"policies={policies}",
            f"network.resolvers={NAMESERVER}",
            *settings,
        ) as service:
            yield service


def run(service: Service, source: str, *args: str, **rest: Any) -> dict[str, Any]:
    """The result of a Python program, with the answer's HTTP status in `http`."""
    body = {"language": "python", "source": source, "args": list(args), **rest}
    answer = httpx.post(f"{service.url}/v1/runs", json=body, timeout=30)
    return {"http": answer.status_code, **answer.json()}


def printed(service: Service, source: str, *args: str, **rest: Any) -> Any:
    """What the program prints, as JSON."""
    result = run(service, source, *args, **rest)
    assert result["status"] == "ok", result
    return json.loads(result["stdout"])


def hang_up(service: Service, words: str, times: int = 1) -> str:
    """Have its files read again; what it has logged by the time that it said `words` so often."""
    before = len(service.log.read_text())
    os.kill(service.pid, signal.SIGHUP)
    deadline = time.monotonic() + 10 * PATIENCE
    while (said := service.log.read_text()[before:]).count(words) < times:
        assert time.monotonic() < deadline, said
        time.sleep(0.02)
    return said
