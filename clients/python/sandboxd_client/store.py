"""Images, volumes and templates: what the service says of them, and the flows that ask."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from sandboxd_client.core import Answer, Core, Flow, Open, Read
from sandboxd_client.deadline import Deadline
from sandboxd_client.errors import ConnectionFailed, ServerError, from_problem
from sandboxd_client.model import parse

PATIENCE = 1800.0
"""Seconds that a build, pull or push may take, where the call does not say."""
_TAR = [(b"Content-Type", b"application/x-tar")]
_JSON = [(b"Content-Type", b"application/json")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    name: str
    digest: str
    created_at: str | None
    layers: int
    size: int
    """Bytes of its layers, as they are transferred."""
    shared: bool
    """The operator's, for everybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDetail:
    name: str
    digest: str
    created_at: str | None
    size: int
    env: tuple[str, ...]
    workdir: str
    command: tuple[str, ...]
    labels: Mapping[str, str]
    history: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    name: str
    size: int
    """Bytes, of the whole file system."""
    created_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateInfo:
    name: str
    image: str
    base: str
    pool: tuple[int, int]
    """Sandboxes kept ahead: at least, at most."""
    shared: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a long operation says while it goes on."""

    type: str
    """`step`, `output`, `transfer` or `done`."""
    text: str = ""
    """The instruction, or output of it."""
    step: int = 0
    steps: int = 0
    line: int = 0
    cached: bool = False
    digest: str = ""
    name: str = ""
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)


OnProgress = Callable[[Progress], None]


def _image(document: Mapping[str, Any]) -> Image:
    return Image(**{name: document.get(name) for name in Image.__slots__})  # type: ignore[arg-type]


def _detail(document: Mapping[str, Any]) -> ImageDetail:
    return ImageDetail(
        name=document["name"],
        digest=document["digest"],
        created_at=document.get("created_at"),
        size=document["size"],
        env=tuple(document["env"]),
        workdir=document["workdir"],
        command=tuple(document["command"]),
        labels=document["labels"],
        history=tuple(document["history"]),
    )


def _volume(document: Mapping[str, Any]) -> Volume:
    return Volume(**{name: document[name] for name in Volume.__slots__})


def _template(document: Mapping[str, Any]) -> TemplateInfo:
    pool = document["pool"]
    return TemplateInfo(
        name=document["name"],
        image=document["image"],
        base=document["base"],
        pool=(pool.get("min", 0), pool.get("max", 0)),
        shared=document["shared"],
    )


def _progress(document: Mapping[str, Any]) -> Progress:
    known = {
        name: document[name]
        for name in ("type", "text", "step", "steps", "line", "cached", "digest", "name")
        if name in document
    }
    return Progress(**known, document=document)


class StoreCore(Core):
    """The operations on what the service stores for a tenant."""

    def images(self, deadline: Deadline) -> Flow[tuple[Image, ...]]:
        answer = yield from self._call(self._get("/v1/images"), deadline, safe=True)
        return parse(answer.body, lambda body: tuple(map(_image, body["images"])))

    def image(self, name: str, deadline: Deadline) -> Flow[ImageDetail]:
        answer = yield from self._call(self._get(_path("images", name)), deadline, safe=True)
        return parse(answer.body, _detail)

    def tag(self, name: str, new: str, deadline: Deadline) -> Flow[Image]:
        request = self._send("POST", "/v1/images/tag", {"name": name, "new": new})
        return parse((yield from self._call(request, deadline, safe=True)).body, _image)

    def volumes(self, deadline: Deadline) -> Flow[tuple[Volume, ...]]:
        answer = yield from self._call(self._get("/v1/volumes"), deadline, safe=True)
        return parse(answer.body, lambda body: tuple(map(_volume, body["volumes"])))

    def create_volume(self, name: str, size: int, deadline: Deadline) -> Flow[Volume]:
        request = self._send("POST", "/v1/volumes", {"name": name, "size": size})
        return parse((yield from self._call(request, deadline, safe=False)).body, _volume)

    def templates(self, deadline: Deadline) -> Flow[tuple[TemplateInfo, ...]]:
        answer = yield from self._call(self._get("/v1/templates"), deadline, safe=True)
        return parse(answer.body, lambda body: tuple(map(_template, body["templates"])))

    def put_template(
        self, name: str, image: str, base: str, pool: tuple[int, int], deadline: Deadline
    ) -> Flow[TemplateInfo]:
        body = {"image": image, "base": base, "pool": {"min": pool[0], "max": pool[1]}}
        request = self._send("PUT", _path("templates", name), body)
        return parse((yield from self._call(request, deadline, safe=True)).body, _template)

    def remove(self, kind: str, name: str, deadline: Deadline) -> Flow[None]:
        """`kind`: images, volumes or templates."""
        url = self._url(_path(kind, name))
        request = httpx.Request("DELETE", url, headers=self._headers)
        yield from self._call(request, deadline, safe=False)

    def build(
        self,
        name: str,
        context: bytes,
        dockerfile: str | None,
        arguments: Mapping[str, str],
        target: str,
        deadline: Deadline,
        on_progress: OnProgress | None,
    ) -> Flow[Image]:
        query: list[tuple[str, str]] = [("name", name)]
        query += [("arg", f"{key}={value}") for key, value in arguments.items()]
        if dockerfile is not None:
            query.append(("dockerfile", dockerfile))
        if target:
            query.append(("target", target))
        request = self._upload("/v1/images/build", query, context)
        return (yield from self._long(request, deadline, on_progress))

    def import_(
        self, name: str, archive: bytes, deadline: Deadline, on_progress: OnProgress | None
    ) -> Flow[Image]:
        request = self._upload("/v1/images/import", [("name", name)], archive)
        return (yield from self._long(request, deadline, on_progress))

    def export(self, name: str, deadline: Deadline) -> Flow[None]:
        """Opens the body."""
        url = self._url("/v1/images/export").copy_with(params={"name": name})
        answer: Answer = yield Open(httpx.Request("GET", url, headers=self._headers), deadline)
        if not answer.ok:
            raise answer.error()

    def piece(self, deadline: Deadline) -> Flow[bytes | None]:
        """What comes next of the opened body."""
        piece: bytes | None = yield Read(deadline)
        return piece

    def transfer(
        self,
        call: str,
        body: Mapping[str, str],
        deadline: Deadline,
        on_progress: OnProgress | None,
    ) -> Flow[Image]:
        """`call`: pull or push."""
        request = self._send("POST", f"/v1/images/{call}", body)
        return (yield from self._long(request, deadline, on_progress))

    def _long(
        self, request: httpx.Request, deadline: Deadline, on_progress: OnProgress | None
    ) -> Flow[Image]:
        """Follows the lines of an operation to its end."""
        answer: Answer = yield Open(request, deadline)
        if not answer.ok:
            raise answer.error()
        rest = b""
        while (chunk := (yield Read(deadline))) is not None:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in filter(None, lines):
                document = parse(line, dict)
                if document.get("type") == "error":
                    raise from_problem(document)
                event = _progress(document)
                if on_progress is not None:
                    on_progress(event)
                if event.type == "done":
                    return (yield from self._made(event, deadline))
        raise ConnectionFailed("the service broke off what it was doing")

    def _made(self, event: Progress, deadline: Deadline) -> Flow[Image]:
        for image in (yield from self.images(deadline)):
            if image.digest == event.digest:
                return image
        raise ServerError(f"{event.name} was made and is not there", code="bad_answer")

    def _send(self, method: str, path: str, body: Mapping[str, Any]) -> httpx.Request:
        data = json.dumps(body, separators=(",", ":")).encode()
        headers = [*self._all(_JSON), (b"Content-Length", b"%d" % len(data))]
        return httpx.Request(
            method, self._url(path), headers=headers, stream=httpx.ByteStream(data)
        )

    def _upload(self, path: str, query: Sequence[tuple[str, str]], data: bytes) -> httpx.Request:
        url = self._url(path).copy_with(params=httpx.QueryParams(list(query)))
        headers = [*self._all(_TAR), (b"Content-Length", b"%d" % len(data))]
        return httpx.Request("POST", url, headers=headers, stream=httpx.ByteStream(data))


def _path(kind: str, name: str) -> str:
    if not name or name.startswith(("/", ".")) or ".." in name:
        raise ValueError(f"{name!r} is no name of any of the {kind}")
    return f"/v1/{kind}/{quote(name, safe='/:@')}"
