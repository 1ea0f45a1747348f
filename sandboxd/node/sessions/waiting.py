"""Work that is not to be given up half way."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Its result. Work that is given up half way would leave something half done: a cancelled caller
    goes, the work goes on."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_looked_at)
    return await asyncio.shield(task)


def _looked_at(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()
