"""The service's MCP tools, asked by the protocol's official client, over HTTP and over stdio."""

import base64
import hashlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from tests.patience import PATIENCE
from tests.service.instance import Service, running

pytestmark = [pytest.mark.root, pytest.mark.service]

KEYS = {"ann": "key-of-ann", "bob": "key-of-bob"}
TOOLS = {
    "run_code", "run_command", "read_file", "write_file", "list_files", "create_sandbox",
    "list_sandboxes", "kill_sandbox", "snapshot_sandbox",
}  # fmt: skip


@pytest.fixture(scope="module")
def served() -> Iterator[Service]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with tempfile.TemporaryDirectory(prefix="sandboxd-keys-") as directory:
        keys = Path(directory) / "keys"
        lines = (f"{who}:{hashlib.sha256(key.encode()).hexdigest()}" for who, key in KEYS.items())
        keys.write_text("\n".join(lines))
        Path(directory).chmod(0o755)
        with running(f"gateway.keys_file={keys}", "gateway.mcp=true") as service:
            yield service


@asynccontextmanager
async def over_http(service: Service, who: str) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {KEYS.get(who, who)}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60 * PATIENCE) as http:
        transport = streamable_http_client(f"{service.url}/mcp", http_client=http)
        async with Client(transport) as client:
            yield client


@asynccontextmanager
async def over_stdio(service: Service, who: str) -> AsyncIterator[Client]:
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "sandboxd.cli.main", "mcp"],
        env={"SANDBOXD_URL": service.url, "SANDBOXD_API_KEY": KEYS[who]},
    )  # fmt: skip
    async with Client(server) as client:
        yield client


def texts(result: Any) -> str:
    return "\n".join(part.text for part in result.content if part.type == "text")


@pytest.mark.parametrize("way", [over_http, over_stdio])
async def test_an_agent_works(served: Service, way: Any) -> None:
    async with way(served, "ann") as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
        made = await client.call_tool("create_sandbox", {})
        assert not made.is_error, texts(made)
        box = made.structured_content["id"]
        told: list[str] = []

        async def hear(progress: float, total: float | None, message: str | None) -> None:
            told.append(message or "")

        code = "import time\nfor n in range(3):\n    print('step', n, flush=True); time.sleep(0.4)\nx = 6"
        done = await client.call_tool(
            "run_code", {"code": code, "sandbox": box}, progress_callback=hear
        )
        assert texts(done) == "step 0\nstep 1\nstep 2\n" and len(told) >= 2
        done = await client.call_tool("run_code", {"code": "x * 7", "sandbox": box})
        assert texts(done) == "42"
        failed = await client.call_tool("run_code", {"code": "1 / 0", "sandbox": box})
        assert "ZeroDivisionError" in texts(failed)
        wrote = await client.call_tool(
            "write_file", {"path": "notes/a.txt", "content": "hello", "sandbox": box}
        )
        assert not wrote.is_error
        ran = await client.call_tool(
            "run_command", {"command": "cat notes/a.txt; echo bad >&2; exit 3", "sandbox": box}
        )
        assert texts(ran) == "hello\n[stderr]\nbad\n\n[exit code 3]"
        read = await client.call_tool("read_file", {"path": "notes/a.txt", "sandbox": box})
        assert texts(read) == "hello"
        listed = await client.call_tool("list_files", {"depth": 2, "sandbox": box})
        assert "/work/notes/a.txt" in {each["path"] for each in listed.structured_content["result"]}
        (template,) = (await client.list_resource_templates()).resource_templates
        assert template.uri_template == "sandbox://{sandbox}/{+path}"
        resource = await client.read_resource(f"sandbox://{box}/work/notes/a.txt")
        assert resource.contents[0].text == "hello"
        ended = await client.call_tool("kill_sandbox", {"sandbox": box})
        assert not ended.is_error
        gone = await client.call_tool("run_code", {"code": "1", "sandbox": box})
        assert gone.is_error and "ended" in texts(gone)


async def test_figures_are_images(served: Service) -> None:
    async with over_http(served, "ann") as client:
        done = await client.call_tool(
            "run_code", {"code": "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()"}
        )
        (image,) = [part for part in done.content if part.type == "image"]
        assert image.mime_type == "image/png"
        assert base64.b64decode(image.data).startswith(b"\x89PNG")


async def test_a_snapshot_is_where_others_begin(served: Service) -> None:
    async with over_http(served, "ann") as client:
        await client.call_tool("write_file", {"path": "kept", "content": "yes"})
        image = texts(await client.call_tool("snapshot_sandbox", {}))
        made = await client.call_tool("create_sandbox", {"image": image})
        assert not made.is_error, texts(made)
        box = made.structured_content["id"]
        assert texts(await client.call_tool("read_file", {"path": "kept", "sandbox": box})) == "yes"


async def test_each_key_has_its_own(served: Service) -> None:
    async with over_http(served, "ann") as ann, over_http(served, "bob") as bob:
        made = await ann.call_tool("create_sandbox", {})
        box = made.structured_content["id"]
        for tool, more in (
            ("run_code", {"code": "1"}), ("run_command", {"command": "id"}),
            ("read_file", {"path": "/etc/passwd"}), ("kill_sandbox", {}), ("snapshot_sandbox", {}),
        ):  # fmt: skip
            refused = await bob.call_tool(tool, {"sandbox": box, **more})
            assert refused.is_error and "no such sandbox" in texts(refused), tool
        theirs = await bob.call_tool("list_sandboxes", {})
        assert box not in {each["id"] for each in theirs.structured_content["result"]}
        with pytest.raises(Exception, match=r"no such|not_found|[Ee]rror"):
            await bob.read_resource(f"sandbox://{box}/etc/passwd")
        await ann.call_tool("kill_sandbox", {"sandbox": box})


def test_without_a_key_there_is_nothing(served: Service) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"Accept": "application/json, text/event-stream"}
    for headers in (accept, {**accept, "Authorization": "Bearer wrong"}):
        answer = httpx2.post(f"{served.url}/mcp", json=body, headers=headers)
        assert answer.status_code == 401
    key = {"Authorization": f"Bearer {KEYS['ann']}"}
    for content, wanted in ((b"{" * 1000, 400), (b"x" * (64 << 20), 413)):
        answer = httpx2.post(
            f"{served.url}/mcp", content=content,
            headers={**accept, **key, "Content-Type": "application/json"},
        )  # fmt: skip
        assert answer.status_code == wanted


async def test_what_a_model_gets_wrong_it_is_told(served: Service) -> None:
    async with over_http(served, "ann") as client:
        for tool, arguments in (
            ("read_file", {"path": "/nowhere"}), ("create_sandbox", {"template": "cobol"}),
            ("run_code", {"code": "1", "sandbox": "sbx_wrong"}),
            ("run_code", {"code": "1", "language": "cobol"}), ("run_code", {}),
        ):  # fmt: skip
            assert (await client.call_tool(tool, arguments)).is_error, tool
