"""What a program of E2B's users waits for: its own client against this service, below /compat/e2b.

The client is the unmodified one of `make compat`, in a process of its own; beside it, in the same run,
its transport asks a server that does nothing but answer.
"""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

from loadtest.peers.http import Server
from loadtest.sessions import Plan, Row, row

_ROOT = Path(__file__).parent.parent
PYTHON = Path(os.environ.get("COMPAT_PYTHON", _ROOT / ".setup/compat/bin/python"))
_CLIENT = Path(__file__).with_name("e2b_client.py")
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
_TIMEOUT = 300.0
_GOALS = {
    "bare HTTP echo through the client's transport": None,
    "create to the first command's answer": 25.0,
    "command in an open sandbox": None,
    "run_code in a live context": 6.0,
}


async def measure(server: Server, plan: Plan, say: Callable[[str], None]) -> list[Row]:
    """Nothing where the client is not installed. Raises RuntimeError if it fails."""
    if not PYTHON.exists():
        say("e2b: left out, since its client is not installed (make .setup/compat)")
        return []
    url = f"http://{server.host}:{server.port}/compat/e2b"
    echo = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with echo:
        host, port = echo.sockets[0].getsockname()
        process = await asyncio.create_subprocess_exec(
            PYTHON, "-P", _CLIENT, f"http://{host}:{port}/", str(plan.samples),
            env={
                "E2B_API_KEY": server.key or "none", "E2B_API_URL": url, "E2B_SANDBOX_URL": url,
                "PATH": os.environ["PATH"],
            },
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), _TIMEOUT)
    if process.returncode != 0:
        raise RuntimeError(f"the client ended with {process.returncode}")
    found: dict[str, list[float]] = json.loads(output)
    say("e2b: done")
    return [row(what, found[what], goal) for what, goal in _GOALS.items()]


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(_ANSWER)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
