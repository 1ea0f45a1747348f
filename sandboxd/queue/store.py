"""What tenants have uploaded, by digest: the data of problems, and files for a while.

It lies in the same Redis as the jobs, so every node reaches it; nodes keep what they have read. The
keys are in `store.lua`. A digest names content within one tenant only: nobody can ask for another's.
"""

from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from redis.exceptions import NoScriptError

from sandboxd.errors import QuotaExceeded
from sandboxd.model.problem import JudgeProblem
from sandboxd.model.submission import CaseData
from sandboxd.queue.connections import Connections
from sandboxd.queue.scripts import Script
from sandboxd.settings import Settings

_STAGED_MS = 600_000
"""A problem whose upload was broken off is gone after it."""
_problem = msgspec.json.Decoder(JudgeProblem)
_SCRIPT = Script(b"", Path(__file__).with_name("store.lua").read_bytes())


def digest(data: bytes) -> str:
    return f"sha256:{sha256(data).hexdigest()}"


class Store:
    """Every method raises Unavailable while Redis does not answer or is full."""

    def __init__(self, settings: Settings) -> None:
        self._connections = Connections(settings.redis_url)
        self._root = settings.queue_root
        self._limits, self._quotas = settings.judge, settings.quotas

    async def close(self) -> None:
        await self._connections.close()

    async def keep_file(self, tenant: str, data: bytes) -> str:
        """The digest of `data`, kept for `judge.file_ttl` seconds. Raises QuotaExceeded."""
        name = digest(data)
        ttl = int(self._limits.file_ttl * 1000)
        most = self._quotas(tenant).files
        if not await self._act("keep_file", tenant, name, data, ttl, most):
            raise QuotaExceeded(f"{tenant} has {most} bytes of files")
        return name

    async def file(self, tenant: str, name: str) -> bytes | None:
        found: bytes | None = await self._connections.call(
            "GET", f"{self._root}file:{tenant}:{name}"
        )
        return found

    async def drop_file(self, tenant: str, name: str) -> bool:
        return bool(await self._act("drop_file", tenant, name))

    async def note(self, tenant: str, key: str, document: bytes, ttl: float) -> None:
        """Remember a small document for `ttl` seconds."""
        await self._connections.call(
            "SET", f"{self._root}note:{tenant}:{key}", document, "PX", int(ttl * 1000)
        )

    async def noted(self, tenant: str, key: str) -> bytes | None:
        found: bytes | None = await self._connections.call(
            "GET", f"{self._root}note:{tenant}:{key}"
        )
        return found

    async def forget_note(self, tenant: str, key: str) -> bool:
        return bool(await self._connections.call("UNLINK", f"{self._root}note:{tenant}:{key}"))

    async def count(self, tenant: str, *names: str) -> None:
        """Each of `names` once more."""
        await self._act("count", tenant, *names)

    async def counts(self, tenant: str) -> dict[str, int]:
        found = await self._connections.call("HGETALL", f"{self._root}counts:{tenant}")
        return {
            name.decode(): int(each) for name, each in zip(found[::2], found[1::2], strict=True)
        }

    async def forget_counts(self, tenant: str, names: Collection[str]) -> None:
        if names:
            await self._connections.call("HDEL", f"{self._root}counts:{tenant}", *names)

    async def label(self, tenant: str, name: str, document: bytes) -> None:
        """Give one of the tenant's files a name; names expire together, after the last was given."""
        key = f"{self._root}labels:{tenant}"
        await self._connections.call("HSET", key, name, document)
        await self._connections.call("PEXPIRE", key, int(self._limits.file_ttl * 1000))

    async def labels(self, tenant: str) -> dict[str, bytes]:
        found = await self._connections.call("HGETALL", f"{self._root}labels:{tenant}")
        return {name.decode(): each for name, each in zip(found[::2], found[1::2], strict=True)}

    async def labelled(self, tenant: str, name: str) -> bytes | None:
        found: bytes | None = await self._connections.call(
            "HGET", f"{self._root}labels:{tenant}", name
        )
        return found

    async def unlabel(self, tenant: str, name: str) -> bool:
        return bool(await self._connections.call("HDEL", f"{self._root}labels:{tenant}", name))

    async def keep_problem(
        self, tenant: str, problem: JudgeProblem, data: Mapping[str, bytes]
    ) -> None:
        """Store a problem and its data by digest. Raises QuotaExceeded; then nothing is kept."""
        key = f"{self._root}problemdata:{problem.id}"
        for name, content in data.items():
            await self._connections.call("HSET", key, name, content)
            await self._connections.call("PEXPIRE", key, _STAGED_MS)
        outcome = await self._act(
            "keep_problem", problem.id, tenant, msgspec.json.encode(problem), problem.size,
            self._quotas(tenant).problems, self._limits.problems_max,
        )  # fmt: skip
        if outcome != b"kept":
            await self._connections.call("UNLINK", key)
            whose = "every tenant's" if outcome == b"all" else f"{tenant}'s"
            raise QuotaExceeded(f"there is no room for {problem.size} bytes among {whose} problems")

    async def problem(self, tenant: str, problem_id: str) -> JudgeProblem | None:
        """The tenant's problem, or None if it is unknown or another's."""
        owner, manifest = await self._connections.call(
            "HMGET", f"{self._root}problem:{problem_id}", "tenant", "manifest"
        )
        return _problem.decode(manifest) if owner == tenant.encode() else None

    async def problems(self, tenant: str, first: int, count: int) -> list[JudgeProblem]:
        """The tenant's problems, latest first."""
        ids = await self._connections.call(
            "ZREVRANGE", f"{self._root}problems:{tenant}", first, first + count - 1
        )
        found = [await self.problem(tenant, each.decode()) for each in ids]
        return [each for each in found if each is not None]

    async def drop_problem(self, tenant: str, problem_id: str) -> bool:
        return bool(await self._act("drop_problem", problem_id, tenant))

    async def content(self, tenant: str, data: CaseData) -> bytes | None:
        """What a case's digest stands for; None if it is gone."""
        assert data.digest is not None
        if not data.problem:
            return await self.file(tenant, data.digest)
        found: bytes | None = await self._connections.call(
            "HGET", f"{self._root}problemdata:{data.problem}", data.digest
        )
        return found

    async def has(self, tenant: str, data: CaseData) -> bool:
        assert data.digest is not None
        if data.problem:
            owner = await self._connections.call(
                "HGET", f"{self._root}problem:{data.problem}", "tenant"
            )
            key = f"{self._root}problemdata:{data.problem}"
            return owner == tenant.encode() and bool(
                await self._connections.call("HEXISTS", key, data.digest)
            )
        key = f"{self._root}file:{tenant}:{data.digest}"
        return bool(await self._connections.call("EXISTS", key))

    async def keep_artifact(self, key: str, data: bytes) -> bool:
        """Keep what a program was compiled to for other nodes; False if it is too large for that."""
        ttl, room = int(self._limits.file_ttl * 1000), self._limits.artifacts_shared
        return bool(await self._act("keep_artifact", key, data, ttl, room))

    async def artifact(self, key: str) -> bytes | None:
        found: bytes | None = await self._act("artifact", key, int(self._limits.file_ttl * 1000))
        return found

    async def keep_hook(self, submission: str, document: bytes, delay: float) -> None:
        """Remember a webhook; somebody looks at it in `delay` seconds."""
        await self._act("keep_hook", submission, document, int(delay * 1000))

    async def drop_hook(self, submission: str) -> None:
        await self._act("drop_hook", submission)

    async def take_hook(self, submission: str, hold: float) -> bytes | None:
        """The webhook of a submission that has ended, ours for `hold` seconds."""
        found: bytes | None = await self._act("take_hook", submission, int(hold * 1000))
        return found

    async def take_due_hooks(self, hold: float, count: int = 16) -> list[tuple[str, bytes]]:
        """Webhooks that somebody has to look at now, ours for `hold` seconds."""
        taken = await self._act("take_due_hooks", int(hold * 1000), count)
        return [(name.decode(), hook) for name, hook in zip(taken[::2], taken[1::2], strict=True)]

    async def _act(self, name: str, *arguments: str | bytes | int) -> Any:
        command = (1, self._root, name, *arguments)
        try:
            return await self._connections.call("EVALSHA", _SCRIPT.sha, *command)
        except NoScriptError:
            return await self._connections.call("EVAL", _SCRIPT.text, *command)
