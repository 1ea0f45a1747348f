"""`/templates`: what is built, what it is called, and its tags."""

from typing import Annotated, Any

from msgspec import Meta, Struct, field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandboxd.errors import InvalidRequest, NotFound
from sandboxd.gateway.adapters import FRONTED
from sandboxd.gateway.adapters.e2b.bodies import Bodies, answer, nothing
from sandboxd.gateway.adapters.e2b.build_files import ARCHIVE_MAX
from sandboxd.gateway.adapters.e2b.builds import Builds
from sandboxd.gateway.adapters.e2b.images import SNAPSHOTS, Images, build_id, parted
from sandboxd.gateway.adapters.e2b.recipe import Recipe
from sandboxd.gateway.adapters.e2b.words import template_wanted
from sandboxd.gateway.bodies import Budget, read_bytes
from sandboxd.gateway.context import Gateway
from sandboxd.model.stored import ImageInfo

UPLOADS = "/uploads/"
"""Below it, what comes next is the credential."""
_HASH_MAX = 128

Tag = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")]


class NewBuild(Struct, frozen=True, rename="camel"):
    name: Annotated[str, Meta(max_length=200)] | None = None
    alias: Annotated[str, Meta(max_length=200)] | None = None
    tags: Annotated[list[Tag], Meta(max_length=32)] = []
    cpu_count: Annotated[int, Meta(ge=1, le=1024)] | None = None
    memory_mb: Annotated[int, Meta(ge=16, le=1 << 20)] | None = field(default=None, name="memoryMB")


class NewTags(Struct, frozen=True):
    target: str
    tags: Annotated[list[Tag], Meta(min_length=1, max_length=32)]


class OldTags(Struct, frozen=True):
    name: str
    tags: Annotated[list[Tag], Meta(min_length=1, max_length=32)]


class Templates:
    def __init__(self, gateway: Gateway, bodies: Bodies, images: Images) -> None:
        self._gateway, self._bodies, self._images = gateway, bodies, images
        self._builds = Builds(gateway, images)
        self._budget = Budget(4 * ARCHIVE_MAX)

    def routes(self) -> list[Route]:
        one = "/templates/{id:path}"
        return [
            Route("/templates", self.list, methods=["GET"]),
            Route("/v2/templates", self.list, methods=["GET"]),
            Route("/v2/templates", self.begin, methods=["POST"]),
            Route("/v3/templates", self.begin, methods=["POST"]),
            Route("/templates/aliases/{alias:path}", self.alias, methods=["GET"]),
            Route("/templates/tags", self.assign, methods=["POST"]),
            Route("/templates/tags", self.unassign, methods=["DELETE"]),
            Route(f"{one}/tags", self.tags, methods=["GET"]),
            Route(f"{one}/files/{{hash}}", self.file, methods=["GET"]),
            Route(f"{one}/builds/{{build}}/status", self.status, methods=["GET"]),
            Route(f"/v2{one}/builds/{{build}}", self.start, methods=["POST"]),
            Route(one, self.remove, methods=["DELETE"]),
            Route(f"{UPLOADS}{{ticket}}", self.upload, methods=["PUT"]),
        ]

    async def list(self, request: Request) -> Response:
        """The tenant's own and the operator's; snapshots are in a list of their own."""
        found: dict[str, ImageInfo] = {}
        for image in await self._images.all(request.scope["tenant"]):
            if not image.name.startswith(SNAPSHOTS):
                found.setdefault(parted(image.name)[0], image)
        return answer([_shown(name, image) for name, image in found.items()])

    async def begin(self, request: Request) -> Response:
        wanted = await self._bodies.json(request, NewBuild)
        name, tag = parted(wanted.name or wanted.alias or "")
        if not name or template_wanted(name) is None or name.startswith(SNAPSHOTS):
            raise InvalidRequest("a template of yours needs a name of its own", field="name")
        tags = list(dict.fromkeys([*wanted.tags] or [tag]))
        build = self._builds.begin(
            request.scope["tenant"], name, tags, wanted.cpu_count, wanted.memory_mb
        )
        names = {"names": [name], "aliases": [name], "tags": build.tags, "public": False}
        return answer({"templateID": name, "buildID": build.id} | names, 202)

    async def file(self, request: Request) -> Response:
        """Whether the files of that hash are here, and where to send them if not."""
        tenant, name = request.scope["tenant"], request.path_params["hash"][:_HASH_MAX]
        # By a listener or host of our own there is no prefix outside.
        prefix = "" if request.scope.get(FRONTED) else request.scope["root_path"]
        origin = f"{request.url.scheme}://{request.headers.get('host', '')}"
        url = f"{origin}{prefix}{UPLOADS}{self._builds.ticket(tenant, name)}"
        return answer({"present": self._builds.files.has(tenant, name), "url": url}, 201)

    async def upload(self, request: Request) -> Response:
        tenant, name = self._builds.redeem(request.path_params["ticket"])
        timeout = self._gateway.settings.gateway.body_timeout
        with self._budget.share() as share:
            self._builds.files.put(
                tenant, name, await read_bytes(request, share, ARCHIVE_MAX, timeout)
            )
        return nothing(201)

    async def start(self, request: Request) -> Response:
        build = self._builds.find(request.scope["tenant"], request.path_params["build"])
        await self._builds.start(build, await self._bodies.json(request, Recipe))
        return nothing(202)

    async def status(self, request: Request) -> Response:
        build = self._builds.find(request.scope["tenant"], request.path_params["build"])
        offset = request.query_params.get("logsOffset", "0")
        if not (offset.isascii() and offset.isdecimal() and len(offset) < 10):
            raise InvalidRequest("is a whole number", field="logsOffset")
        return answer(build.shown(int(offset)))

    async def alias(self, request: Request) -> Response:
        tenant, name = request.scope["tenant"], request.path_params["alias"]
        if not await self._images.tags(tenant, name):
            await self._images.meant(tenant, name)
        return answer({"templateID": parted(name)[0], "public": False})

    async def assign(self, request: Request) -> Response:
        wanted = await self._bodies.json(request, NewTags)
        tenant = request.scope["tenant"]
        head, tag = parted(wanted.target)
        made = [
            await self._images.tag(tenant, f"{head}:{tag}", f"{head}:{new}") for new in wanted.tags
        ]
        return answer({"tags": wanted.tags, "buildID": build_id(made[0].digest)}, 201)

    async def unassign(self, request: Request) -> Response:
        wanted = await self._bodies.json(request, OldTags)
        head, _ = parted(wanted.name)
        await self._images.remove(request.scope["tenant"], [f"{head}:{tag}" for tag in wanted.tags])
        return nothing()

    async def tags(self, request: Request) -> Response:
        found = await self._images.tags(request.scope["tenant"], request.path_params["id"])
        if not found:
            raise NotFound("there is no such template of yours")
        return answer(
            [
                {
                    "tag": parted(image.name)[1],
                    "buildID": build_id(image.digest),
                    "createdAt": image.created_at,
                }
                for image in found
            ]
        )

    async def remove(self, request: Request) -> Response:
        """A template with all its tags; with a tag in its name that alone; a snapshot."""
        tenant, name = request.scope["tenant"], request.path_params["id"]
        found = [image.name for image in await self._images.tags(tenant, name)]
        head, tag = parted(name)
        if name != head:
            found = [each for each in found if each == f"{head}:{tag}"]
        if not found:
            raise NotFound(f"template {name!r} was not found")
        await self._images.remove(tenant, found)
        return nothing()


def _shown(name: str, image: ImageInfo) -> dict[str, Any]:
    return {
        "templateID": name,
        "buildID": build_id(image.digest),
        "aliases": [name],
        "names": [name],
        "public": image.shared,
        "createdAt": image.created_at,
        "updatedAt": image.created_at,
        "buildStatus": "ready",
        "buildCount": 1,
        "spawnCount": 0,
    }
