"""go-judge's file store: `/file` and `/file/{id}`, of one tenant each."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sandboxd.errors import RequestError
from sandboxd.gateway.adapters import go_judge_words as words
from sandboxd.gateway.adapters.go_judge_work import Worker
from sandboxd.gateway.adapters.jobs import Bodies, form_file, json
from sandboxd.gateway.context import Gateway


class Files:
    def __init__(self, gateway: Gateway, worker: Worker, bodies: Bodies) -> None:
        self._store, self._worker, self._bodies = gateway.store, worker, bodies

    async def list(self, request: Request) -> Response:
        labels = await self._store.labels(request.scope["tenant"])
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
        return json(await self._worker.keep(request.scope["tenant"], name, data))

    async def download(self, request: Request) -> Response:
        tenant, file_id = request.scope["tenant"], request.path_params["id"]
        label = await self._store.labelled(tenant, file_id)
        if label is None:
            return Response(status_code=404)
        known = msgspec.json.decode(label, type=words.Label)
        data = await self._store.file(tenant, known.digest)
        if data is None:
            return Response(status_code=404)
        quoted = words.quoted(known.name)
        return Response(
            data,
            media_type="application/octet-stream",
            headers={"content-disposition": f"attachment; filename={quoted}"},
        )

    async def delete(self, request: Request) -> Response:
        found = await self._store.unlabel(request.scope["tenant"], request.path_params["id"])
        return Response(status_code=200 if found else 404)
