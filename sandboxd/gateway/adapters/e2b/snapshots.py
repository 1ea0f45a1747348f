"""Snapshots: the files of a sandbox as a template of its tenant's, without memory and processes."""

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandboxd.gateway.adapters.e2b import words
from sandboxd.gateway.adapters.e2b.bodies import Bodies, answer
from sandboxd.gateway.adapters.e2b.identity import meant
from sandboxd.gateway.adapters.e2b.images import SNAPSHOTS, Images, parted
from sandboxd.gateway.context import Gateway
from sandboxd.model import agent
from sandboxd.model.stored import ImageInfo

COPYING = 600.0
"""Seconds that a snapshot of a large file system may take."""
_PAGE = 100


class Snapshots:
    def __init__(self, gateway: Gateway, bodies: Bodies, images: Images) -> None:
        self._sandboxes, self._bodies, self._images = gateway.sandboxes, bodies, images

    def routes(self) -> list[Route]:
        return [
            Route("/sandboxes/{id}/snapshots", self.create, methods=["POST"]),
            Route("/snapshots", self.list, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """One of a name that is there takes its place."""
        tenant, sandbox = request.scope["tenant"], meant(request.path_params["id"])
        wanted = await self._bodies.json(request, words.NewSnapshot)
        name = wanted.name or f"{sandbox.removeprefix('sbx_')}:{int(time.time() * 1000)}"
        head, tag = parted(name)
        image = f"{SNAPSHOTS}{head}:{tag}"
        call = agent.Snapshot(tenant=tenant, sandbox=sandbox, name=image)
        await self._sandboxes.ask(call, agent.Snapshotted, COPYING)
        return answer(_shown(image), 201)

    async def list(self, request: Request) -> Response:
        """The newest first, a page at a time; of one sandbox, or one name, where that is asked for."""
        tenant, query = request.scope["tenant"], request.query_params
        found = [
            image for image in await self._images.all(tenant)
            if image.name.startswith(SNAPSHOTS) and not image.shared
        ]  # fmt: skip
        name = query.get("name")
        if name is not None:
            found = [image for image in found if _is(image, name)]
        sandbox = query.get("sandboxID")
        if sandbox is not None:
            note = f"snapshot of {meant(sandbox)}"
            found = [image for image in found if await self._noted(tenant, image, note)]
        found.sort(key=lambda image: (image.created_at or "", image.name), reverse=True)
        after = query.get("nextToken")
        names = [image.name for image in found]
        start = names.index(after) + 1 if after in names else 0
        text = query.get("limit", "")
        limit = int(text) if text.isascii() and text.isdecimal() and len(text) < 5 else _PAGE
        page = names[start : start + max(1, min(limit, _PAGE))]
        more = page and start + len(page) < len(names)
        headers = {"x-next-token": page[-1]} if more else None
        return answer([_shown(name) for name in page], 200, headers)

    async def _noted(self, tenant: str, image: ImageInfo, note: str) -> bool:
        return (await self._images.detail(tenant, image.name)).history[-1:] == [note]


def _is(image: ImageInfo, name: str) -> bool:
    shown = image.name.removeprefix(SNAPSHOTS)
    return name in (image.name, shown, parted(shown)[0])


def _shown(image: str) -> dict[str, Any]:
    return {"snapshotID": image, "names": [image.removeprefix(SNAPSHOTS)]}
