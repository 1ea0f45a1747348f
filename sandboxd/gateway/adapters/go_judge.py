"""go-judge: `/run`, `/file`, `/ws`, `/version`, `/config`. Commands run in the template `default`.

Refused, each by its own message: `src` (host paths), `pipeMapping`, `tty`, symlinks, `streamIn` and
`streamOut`. Nothing is shared between the commands of a request but the files that it names.
"""

import asyncio
import secrets
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive
from starlette.websockets import WebSocket, WebSocketDisconnect

from sandboxd import __version__
from sandboxd.errors import RequestError, SandboxdError
from sandboxd.gateway.adapters import go_judge_words as words
from sandboxd.gateway.adapters.jobs import Bodies, form_file, json, run
from sandboxd.gateway.api.stream import check_origin
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.waiting import ClientGone

_AT_ONCE = 16
"""Commands of one request."""
_FLAGS = (
    "copyOutOptional", "pipeProxy", "symlink", "addressSpaceLimit", "stream", "procPeak",
    "copyOutTruncate", "pipeProxyZeroCopy", "fixSymlinkEscape",
)  # fmt: skip
_ABSENT = ("pipeProxy", "symlink", "stream", "pipeProxyZeroCopy", "addressSpaceLimit")


def routes(gateway: Gateway) -> list[BaseRoute]:
    judge = GoJudge(gateway)
    return [
        Route("/run", judge.run, methods=["POST"]),
        Route("/file", judge.files, methods=["GET"]),
        Route("/file", judge.upload, methods=["POST"]),
        Route("/file/{id}", judge.download, methods=["GET"]),
        Route("/file/{id}", judge.delete, methods=["DELETE"]),
        WebSocketRoute("/ws", judge.socket),
        Route("/version", judge.version, methods=["GET"]),
        Route("/config", judge.config, methods=["GET"]),
    ]


class GoJudge:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._bodies = gateway, Bodies(gateway)

    async def version(self, request: Request) -> Response:
        return json(
            {
                "buildVersion": f"sandboxd {__version__}",
                "goVersion": "",
                "platform": "amd64",
                "os": "linux",
                **{name: name not in _ABSENT for name in _FLAGS},
            }
        )

    async def config(self, request: Request) -> Response:
        return json(
            {
                **{name: name not in _ABSENT for name in _FLAGS},
                "fileStorePath": "",
                "runnerConfig": {"cgroupType": 2, "workDir": "/work", "uid": 1000, "gid": 1000},
            }
        )

    async def run(self, request: Request) -> Response:
        try:
            body = await self._bodies.json(request)
            commands = await self._commands(request.scope["tenant"], body)
        except words.Bad as error:
            return json(str(error), 400)
        except RequestError as error:
            return json(error.detail, 400)
        try:
            results = await self._all(request.scope["tenant"], commands, request.receive)
        except SandboxdError as error:
            return json(error.detail, 500)
        return json(results)

    async def _commands(self, tenant: str, body: object) -> list[words.Asked]:
        """Raises Bad."""
        if not isinstance(body, dict) or not isinstance(body.get("cmd"), list) or not body["cmd"]:
            raise words.Bad("no cmd provided")
        if body.get("pipeMapping"):
            raise words.Bad("pipeMapping is not supported")
        if len(body["cmd"]) > _AT_ONCE:
            raise words.Bad(f"more than {_AT_ONCE} cmd")
        maximum = self._gateway.policies.limits.maximum
        contents: dict[str, bytes] = {}
        for name in words.file_ids(body["cmd"]):
            contents[name] = await self._content(tenant, name)
        return [words.ask(command, contents, maximum) for command in body["cmd"]]

    async def _content(self, tenant: str, name: str) -> bytes:
        label = await self._gateway.store.labelled(tenant, name)
        if label is not None:
            known = msgspec.json.decode(label, type=words.Label)
            data = await self._gateway.store.file(tenant, known.digest)
            if data is not None:
                return data
        raise words.Bad(f"file does not exist: {name}")

    async def _all(
        self, tenant: str, commands: list[words.Asked], receive: Receive | None
    ) -> list[dict[str, Any]]:
        """Side by side, as go-judge runs them. The first to hear that the client left ends all."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._one(tenant, asked, receive if index == 0 else None))
                for index, asked in enumerate(commands)
            ]
        return [task.result() for task in tasks]

    async def _one(
        self, tenant: str, asked: words.Asked, receive: Receive | None
    ) -> dict[str, Any]:
        result = await run(self._gateway, tenant, asked.request, receive)
        answer = words.answer(asked, result)
        for name in asked.cached:
            if name in result.files:
                file_id = await self._keep(tenant, name, result.files[name].data())
                answer.setdefault("fileIds", {})[name] = file_id
        return answer

    async def _keep(self, tenant: str, name: str, data: bytes) -> str:
        digest = await self._gateway.store.keep_file(tenant, data)
        file_id = words.new_file_id(secrets.token_bytes(5))
        label = msgspec.json.encode(words.Label(name=name, digest=digest))
        await self._gateway.store.label(tenant, file_id, label)
        return file_id

    async def files(self, request: Request) -> Response:
        labels = await self._gateway.store.labels(request.scope["tenant"])
        known = {name: msgspec.json.decode(x, type=words.Label) for name, x in labels.items()}
        return json({name: label.name for name, label in known.items()})

    async def upload(self, request: Request) -> Response:
        try:
            found = form_file(
                request.headers.get("content-type", ""), await self._bodies.data(request)
            )
        except RequestError as error:
            return json(error.detail, 400)
        if found is None:
            return json("http: no such file", 400)
        name, data = found
        return json(await self._keep(request.scope["tenant"], name, data))

    async def download(self, request: Request) -> Response:
        tenant, file_id = request.scope["tenant"], request.path_params["id"]
        label = await self._gateway.store.labelled(tenant, file_id)
        if label is None:
            return Response(status_code=404)
        known = msgspec.json.decode(label, type=words.Label)
        data = await self._gateway.store.file(tenant, known.digest)
        if data is None:
            return Response(status_code=404)
        quoted = words.quoted(known.name)
        return Response(
            data,
            media_type="application/octet-stream",
            headers={"content-disposition": f"attachment; filename={quoted}"},
        )

    async def delete(self, request: Request) -> Response:
        found = await self._gateway.store.unlabel(
            request.scope["tenant"], request.path_params["id"]
        )
        return Response(status_code=200 if found else 404)

    async def socket(self, socket: WebSocket) -> None:
        check_origin(socket.headers)
        with self._gateway.slots.take():
            await socket.accept()
            try:
                async with asyncio.timeout(self._gateway.settings.gateway.total_timeout):
                    await self._gateway.unless_closing(self._converse(socket))
            except (WebSocketDisconnect, TimeoutError):
                raise ClientGone from None

    async def _converse(self, socket: WebSocket) -> None:
        running: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                body = words.message(await socket.receive_text())
                cancelled, request_id = body.get("cancelRequestId"), body.get("requestId")
                if cancelled in running:
                    running[cancelled].cancel()
                elif cancelled is not None:
                    continue
                elif not isinstance(request_id, str) or not request_id:
                    await _say(
                        socket, {"requestId": "", "results": [], "error": "empty request id"}
                    )
                elif request_id in running:
                    error = "duplicated request id"
                    await _say(socket, {"requestId": request_id, "results": [], "error": error})
                else:
                    task = asyncio.create_task(self._serve(socket, request_id, body))
                    running[request_id] = task
                    task.add_done_callback(partial(_forget, running, request_id))
        finally:
            for task in list(running.values()):
                task.cancel()

    async def _serve(self, socket: WebSocket, request_id: str, body: dict[str, Any]) -> None:
        tenant = socket.scope["tenant"]
        answer: dict[str, Any] = {"requestId": request_id, "results": []}
        try:
            answer["results"] = await self._all(tenant, await self._commands(tenant, body), None)
        except* (words.Bad, SandboxdError) as errors:
            answer["error"] = str(errors.exceptions[0])
        await _say(socket, answer)


def _forget(running: dict[str, asyncio.Task[None]], name: str, task: asyncio.Task[None]) -> None:
    running.pop(name, None)


async def _say(socket: WebSocket, body: dict[str, Any]) -> None:
    await socket.send_text(msgspec.json.encode(body).decode())
