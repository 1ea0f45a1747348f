"""The judge of one node: what its submissions share, and how their news reach the queue."""

import asyncio
import contextlib

from sandboxd.drivers.exec.base import Built
from sandboxd.errors import Unavailable
from sandboxd.model import Lease, Result
from sandboxd.node.judging.artifacts import Artifacts, Toolchain
from sandboxd.node.judging.compiling import Compiler
from sandboxd.node.judging.cores import Cores
from sandboxd.node.judging.data import Data
from sandboxd.node.judging.judging import Judging
from sandboxd.node.pool import Pool
from sandboxd.policy import Policies
from sandboxd.queue import Queue
from sandboxd.queue.store import Store
from sandboxd.settings import JudgeSettings

_BATCH = 64
News = asyncio.Queue[tuple[str, bytes] | None]


class Judge:
    def __init__(
        self, queue: Queue, store: Store, policies: Policies, pool: Pool, settings: JudgeSettings,
        *, node: str, toolchain: Toolchain = lambda _: None,
    ) -> None:  # fmt: skip
        self._queue, self._policies, self._pool, self._node = queue, policies, pool, node
        artifacts = Artifacts(store, min(settings.artifact_shared_max, settings.artifacts_shared))
        self.compiler = Compiler(settings.artifacts_max, artifacts, toolchain)
        self.data = Data(store, settings.data_max)
        self._cores = Cores(settings.cores)

    def judging(self, lease: Lease) -> "Reported":
        """Raises DriverFault if this node's policies do not know a language."""
        news: News = asyncio.Queue()
        judging = Judging(
            lease.job, self._policies, self._pool, self.compiler, self.data, self._cores,
            node=self._node, tell=lambda kind, document: news.put_nowait((kind, document)),
        )  # fmt: skip
        return Reported(judging, self._queue, lease, news)


class Reported:
    """A judging whose news go to the queue while it lasts."""

    def __init__(self, judging: Judging, queue: Queue, lease: Lease, news: News) -> None:
        self._judging, self._queue, self._lease, self._news = judging, queue, lease, news
        self.shelves, self.live = judging.shelves, judging.live
        self.cancel = judging.cancel

    async def run(self, first: Built) -> Result:
        """As `Judging.run`. When it returns, every piece of news has been told, or given up."""
        telling = asyncio.create_task(self._tell())
        try:
            return await self._judging.run(first)
        finally:
            self._news.put_nowait(None)
            await telling

    async def _tell(self) -> None:
        """In batches: what has come up while the last was under way goes together."""
        first, over = 0, False
        while not over:
            batch = [await self._news.get()]
            while not self._news.empty() and len(batch) < _BATCH:
                batch.append(self._news.get_nowait())
            over = batch[-1] is None
            news = [piece for piece in batch if piece is not None]
            # What the queue cannot take now is in the result all the same.
            with contextlib.suppress(Unavailable):
                if news:
                    await self._queue.tell(self._lease, first, news)
            first += len(news)
