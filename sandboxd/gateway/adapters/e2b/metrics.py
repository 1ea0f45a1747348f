"""What a sandbox uses, as E2B's documents say it."""

import asyncio
from math import ceil
from typing import Any

from sandboxd.gateway.adapters.e2b.words import moment
from sandboxd.gateway.context import Gateway
from sandboxd.model import agent
from sandboxd.model.session import Metrics

_SPAN = 0.05
"""Seconds over which the share of a CPU is measured."""


async def sample(gateway: Gateway, tenant: str, sandbox: str) -> dict[str, Any]:
    """One, of now. Raises NotFound, SandboxEnded."""
    call = agent.Metrics(tenant=tenant, sandbox=sandbox)
    before = await gateway.sandboxes.ask(call, Metrics)
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(_SPAN)
    now = await gateway.sandboxes.ask(call, Metrics)
    passed = asyncio.get_running_loop().time() - began
    limits = (await gateway.sandboxes.live(tenant, sandbox)).sandbox.limits
    return {
        "timestamp": now.at,
        "timestampUnix": int(moment(now.at)),
        "cpuCount": ceil(limits.cpus or 1),
        "cpuUsedPct": round(max(0.0, now.cpu_time - before.cpu_time) / passed * 100, 2),
        "memUsed": now.memory,
        "memTotal": now.memory_limit,
        "memCache": 0,
        "diskUsed": now.disk,
        "diskTotal": now.disk_limit,
    }
