"""What a sandbox uses, as E2B's documents say it."""

import asyncio
from itertools import pairwise
from math import ceil
from typing import Any

from sandboxd.gateway.adapters.e2b.words import moment
from sandboxd.gateway.context import Gateway
from sandboxd.model import agent
from sandboxd.model.session import Metrics, SessionLimits
from sandboxd.model.session_metrics import MetricsHistory, MetricsSample

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
    return _shown(now, now.cpu_time - before.cpu_time, passed, limits)


async def history(
    gateway: Gateway, tenant: str, sandbox: str, start: float, end: float
) -> list[dict[str, Any]]:
    """Those that were taken between two moments, seconds since the epoch. Raises as `sample`."""
    limits = (await gateway.sandboxes.live(tenant, sandbox)).sandbox.limits
    call = agent.History(tenant=tenant, sandbox=sandbox)
    kept = await gateway.sandboxes.ask(call, MetricsHistory)
    return [
        _shown(now, now.cpu_time - before.cpu_time, moment(now.at) - moment(before.at), limits)
        for before, now in pairwise(kept.samples)
        if start <= moment(now.at) <= end
    ]


def _shown(
    now: Metrics | MetricsSample, cpu_time: float, passed: float, limits: SessionLimits
) -> dict[str, Any]:
    """`cpu_time` was used in the `passed` seconds before."""
    return {
        "timestamp": now.at,
        "timestampUnix": int(moment(now.at)),
        "cpuCount": ceil(limits.cpus or 1),
        "cpuUsedPct": round(max(0.0, cpu_time) / max(passed, 0.001) * 100, 2),
        "memUsed": now.memory,
        "memTotal": limits.memory or 0,
        "memCache": 0,
        "diskUsed": now.disk,
        "diskTotal": limits.disk or 0,
    }
