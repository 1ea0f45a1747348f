"""go-judge: `/run`, `/file`, `/ws`, `/stream`, `/version`, `/config`, `/metrics`. Commands run in the
template `default`.

Refused, each by its own message: `src` (host paths), symlinks, `tty` but on a stream. Nothing is shared
between the commands of a request but the files and pipes that it names.
"""

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from sandboxd import __version__
from sandboxd.errors import RequestError, SandboxdError
from sandboxd.gateway.adapters.go_judge_files import Files
from sandboxd.gateway.adapters.go_judge_socket import Requests
from sandboxd.gateway.adapters.go_judge_stream import LiveRequests
from sandboxd.gateway.adapters.go_judge_words import Bad
from sandboxd.gateway.adapters.go_judge_work import Worker
from sandboxd.gateway.adapters.jobs import Bodies, json
from sandboxd.gateway.context import Gateway

_FLAGS = (
    "copyOutOptional", "pipeProxy", "symlink", "addressSpaceLimit", "stream", "procPeak",
    "copyOutTruncate", "pipeProxyZeroCopy", "fixSymlinkEscape",
)  # fmt: skip
_ABSENT = ("symlink", "addressSpaceLimit", "procPeak")


def routes(gateway: Gateway) -> list[BaseRoute]:
    worker, bodies = Worker(gateway), Bodies(gateway)
    judge, files = GoJudge(worker, bodies), Files(gateway, worker, bodies)
    return [
        Route("/run", judge.run, methods=["POST"]),
        Route("/file", files.list, methods=["GET"]),
        Route("/file", files.upload, methods=["POST"]),
        Route("/file/{id}", files.download, methods=["GET"]),
        Route("/file/{id}", files.delete, methods=["DELETE"]),
        WebSocketRoute("/ws", Requests(gateway, worker).socket),
        WebSocketRoute("/stream", LiveRequests(gateway, worker).socket),
        Route("/version", judge.version, methods=["GET"]),
        Route("/config", judge.config, methods=["GET"]),
        Route("/metrics", judge.metrics, methods=["GET"]),
    ]


class GoJudge:
    def __init__(self, worker: Worker, bodies: Bodies) -> None:
        self._worker, self._bodies = worker, bodies

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

    async def metrics(self, request: Request) -> Response:
        body = self._worker.metrics.of(request.scope["tenant"]).exposition()
        return Response(body, headers={"content-type": CONTENT_TYPE_LATEST})

    async def run(self, request: Request) -> Response:
        tenant = request.scope["tenant"]
        try:
            work = await self._worker.work(tenant, await self._bodies.json(request))
            return json(await self._worker.do(tenant, work, request.receive))
        except Bad as error:
            return json(str(error), error.status)
        except RequestError as error:
            return json(error.detail, 400)
        except SandboxdError as error:
            return json(error.detail, 500)
