"""Builds of templates: begun, sent for, run by the node's builder, asked about until they are over."""

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

from msgspec import Struct, field

from sandboxd.errors import InvalidRequest, NotFound, QuotaExceeded, SandboxdError
from sandboxd.gateway.adapters.e2b import recipe as recipes
from sandboxd.gateway.adapters.e2b.build_files import BuildFiles, context
from sandboxd.gateway.adapters.e2b.images import DEFAULT, Images
from sandboxd.gateway.adapters.e2b.recipe import Recipe
from sandboxd.gateway.adapters.e2b.words import template_wanted
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.problems import problem
from sandboxd.model import images_wire as wire
from sandboxd.model.building import Progress
from sandboxd.model.moment import rfc3339

_MOST, _UNFINISHED = 1_000, 8
"""Builds that are remembered; those of one tenant that are under way."""
_LINES_MAX = 10_000


class Build(Struct, kw_only=True):
    id: str
    tenant: str
    template: str
    tags: list[str]
    cpus: int | None
    memory: int | None
    status: str = "waiting"
    reason: str = ""
    lines: list[dict[str, Any]] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def say(self, text: str, level: str = "info") -> None:
        if text and len(self.lines) < _LINES_MAX:
            at = rfc3339(time.time())
            self.lines.append({"timestamp": at, "message": text, "level": level})

    def shown(self, offset: int) -> dict[str, Any]:
        lines = self.lines[offset : offset + 100]
        found: dict[str, Any] = {
            "templateID": self.template,
            "buildID": self.id,
            "status": self.status,
            "logs": [line["message"] for line in lines],
            "logEntries": lines,
        }
        return found | ({"reason": {"message": self.reason}} if self.reason else {})


class Builds:
    def __init__(self, gateway: Gateway, images: Images) -> None:
        self._gateway, self._images = gateway, images
        self.files = BuildFiles()
        self._builds: OrderedDict[str, Build] = OrderedDict()
        self._tickets: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def begin(
        self, tenant: str, template: str, tags: list[str], cpus: int | None, memory: int | None
    ) -> Build:
        """Raises QuotaExceeded."""
        under_way = [
            each for each in self._builds.values()
            if each.tenant == tenant and each.status in ("waiting", "building")
        ]  # fmt: skip
        if len(under_way) >= _UNFINISHED:
            raise QuotaExceeded(f"{_UNFINISHED} builds are under way", retry_after=10.0)
        build = Build(
            id=str(uuid4()), tenant=tenant, template=template, tags=tags or [DEFAULT],
            cpus=cpus, memory=memory,
        )  # fmt: skip
        self._builds[build.id] = build
        while len(self._builds) > _MOST:
            self._builds.popitem(last=False)
        return build

    def find(self, tenant: str, name: str) -> Build:
        """Raises NotFound."""
        build = self._builds.get(name)
        if build is None or build.tenant != tenant:
            raise NotFound("there is no such build, or another gateway has it")
        return build

    def ticket(self, tenant: str, name: str) -> str:
        """With which the files of that hash may be sent, without a key."""
        ticket = secrets.token_urlsafe(24)
        self._tickets[ticket] = (tenant, name)
        while len(self._tickets) > _MOST:
            self._tickets.popitem(last=False)
        return ticket

    def redeem(self, ticket: str) -> tuple[str, str]:
        """Whose files of which hash. Raises NotFound."""
        found = self._tickets.get(ticket)
        if found is None:
            raise NotFound("the address is not valid, or not any more")
        return found

    async def start(self, build: Build, recipe: Recipe) -> None:
        """Returns when it is under way. Raises InvalidRequest, NotOffered, NotFound."""
        if build.status != "waiting" or build.task is not None:
            raise InvalidRequest("the build has been started")
        image = await self._base(build.tenant, recipe)
        text = recipes.dockerfile(recipe, image, build.cpus, build.memory)
        archives = self.files.archives(build.tenant, recipes.hashes(recipe))
        build.status = "building"
        build.task = asyncio.create_task(self._run(build, text, archives))

    async def _base(self, tenant: str, recipe: Recipe) -> str:
        if recipe.from_image:
            name = recipe.from_image
        elif recipe.from_template and template_wanted(recipe.from_template) is not None:
            name = recipe.from_template
        else:
            raise InvalidRequest(
                "our own template is the host's directories, on which nothing can be built: begin from "
                "an image of this service, or a template that was built here"
            )
        found = await self._images.meant(tenant, name)
        if found is None:
            raise NotFound(f"image {name!r} was not found")
        return found.name

    async def _run(self, build: Build, text: str, archives: list[bytes]) -> None:
        """Every end is in the build: nobody waits for this."""
        try:
            call = wire.BuildImage(
                tenant=build.tenant, name=f"{build.template}:{build.tags[0]}", dockerfile=text
            )
            await self._gateway.unless_closing(
                self._gateway.node.follow(
                    call, _streamed(archives), lambda told: _tell(build, told)
                )
            )
            for tag in build.tags[1:]:
                await self._images.tag(build.tenant, call.name, f"{build.template}:{tag}")
            build.status = "ready"
        except SandboxdError as error:
            build.reason = problem(error).detail
            build.say(build.reason, "error")
            build.status = "error"
        except Exception as error:
            build.reason, build.status = problem(error).detail, "error"
            raise


async def _streamed(archives: list[bytes]) -> AsyncIterator[bytes]:
    """The context, made in a thread: packing is not for the loop."""
    pieces = context(archives)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        if piece:
            yield piece


def _tell(build: Build, told: Progress) -> None:
    if told.type == "step":
        build.say(f"[{told.step}/{told.steps}] {told.text}" + (" (cached)" if told.cached else ""))
    elif told.type == "output":
        build.say(told.text.rstrip("\n"))
