"""A go-judge request, from its JSON to its results: a run for each command, or one job of them all."""

import asyncio
import secrets
from typing import Any

import msgspec
from msgspec import Struct
from starlette.types import Receive

from sandboxd.errors import RequestError, SandboxdError
from sandboxd.gateway.adapters import go_judge_pipes, go_judge_words
from sandboxd.gateway.adapters.go_judge_metrics import Metrics
from sandboxd.gateway.adapters.go_judge_words import Asked, Bad, WorkerError
from sandboxd.gateway.adapters.jobs import run, run_together
from sandboxd.gateway.context import Gateway
from sandboxd.model import PartOutcome, Result
from sandboxd.model.parts import Pipe

_AT_ONCE = 16
"""Commands of one request: `/stream` has four bits for their number."""


class Work(Struct, frozen=True):
    """One request."""

    commands: list[Asked]
    pipes: list[Pipe]


class Worker:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.metrics = Metrics()

    async def work(self, tenant: str, body: object, *, live: bool = False) -> Work:
        """What `body` asks for; `live` if the client may be at the other end of streams. Raises Bad."""
        if not isinstance(body, dict) or not isinstance(body.get("cmd"), list) or not body["cmd"]:
            raise Bad("no cmd provided")
        given = body["cmd"]
        if len(given) > _AT_ONCE:
            raise Bad(f"more than {_AT_ONCE} cmd")
        # As go-judge: a single command has no pipes.
        mapping = body.get("pipeMapping") if len(given) > 1 else None
        pipes = go_judge_pipes.pipes(mapping or [], len(given))
        if pipes and live:
            raise Bad("pipeMapping is not supported on a stream")
        contents: dict[str, bytes] = {}
        for name in go_judge_words.file_ids(given):
            contents[name] = await self._content(tenant, name)
        maximum = self._gateway.policies.limits.maximum
        commands = [
            go_judge_words.ask(
                command, contents, maximum, go_judge_pipes.taken(pipes, index),
                go_judge_pipes.names(pipes, index), live=live,
            )
            for index, command in enumerate(given)
        ]  # fmt: skip
        return Work(commands, pipes)

    async def do(
        self, tenant: str, work: Work, receive: Receive | None = None
    ) -> list[dict[str, Any]]:
        """The results, waited for. Raises Bad, ClientGone, and what a run raises."""
        metrics = self.metrics.of(tenant)
        try:
            with metrics.running(len(work.commands)):
                if work.pipes:
                    return await self._together(tenant, work, receive)
                return await self._side_by_side(tenant, work, receive)
        except RequestError as error:
            raise Bad(error.detail) from error
        except SandboxdError:
            metrics.error()
            raise

    async def _together(
        self, tenant: str, work: Work, receive: Receive | None
    ) -> list[dict[str, Any]]:
        requests = [asked.request for asked in work.commands]
        result = await run_together(self._gateway, tenant, requests, work.pipes, receive)
        if not isinstance(result.parts, list) or not result.parts:
            raise WorkerError(result.reason or result.status.value)
        return [
            await self.answered(tenant, asked, part)
            for asked, part in zip(work.commands, result.parts, strict=True)
        ]

    async def _side_by_side(
        self, tenant: str, work: Work, receive: Receive | None
    ) -> list[dict[str, Any]]:
        """The first to hear that the client left ends all."""
        runs = [
            run(
                self._gateway,
                tenant,
                asked.request,
                receive if index == 0 else None,
                exact_env=True,
            )
            for index, asked in enumerate(work.commands)
        ]
        if len(runs) == 1:  # as nearly always, and then there is no need of tasks
            return [await self.answered(tenant, work.commands[0], await runs[0])]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(each) for each in runs]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [
            await self.answered(tenant, asked, task.result())
            for asked, task in zip(work.commands, tasks, strict=True)
        ]

    async def answered(self, tenant: str, asked: Asked, of: Result | PartOutcome) -> dict[str, Any]:
        """One Result, whose files are kept."""
        answer = go_judge_words.answer(asked, of)
        for name, data in go_judge_words.kept(asked, of):
            answer.setdefault("fileIds", {})[name] = await self.keep(tenant, name, data)
        self.metrics.of(tenant).ran(answer["status"], of.cpu_time, of.peak_memory)
        return answer

    async def keep(self, tenant: str, name: str, data: bytes) -> str:
        """The id of a file that is now in the store."""
        digest = await self._gateway.store.keep_file(tenant, data)
        file_id = go_judge_words.new_file_id(secrets.token_bytes(5))
        label = msgspec.json.encode(go_judge_words.Label(name=name, digest=digest))
        await self._gateway.store.label(tenant, file_id, label)
        self.metrics.of(tenant).kept(len(data))
        return file_id

    async def _content(self, tenant: str, name: str) -> bytes:
        label = await self._gateway.store.labelled(tenant, name)
        if label is not None:
            known = msgspec.json.decode(label, type=go_judge_words.Label)
            data = await self._gateway.store.file(tenant, known.digest)
            if data is not None:
                return data
        raise Bad(f"file does not exist: {name}")
