"""What the node and the guard say to each other: frames of msgpack with a length before each."""

import asyncio
import struct
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

_HEAD = struct.Struct("!I")
_FRAME_MAX = 4 << 20

Text = Annotated[str, Meta(max_length=300)]


class NameRule(Struct, frozen=True):
    domain: str
    protocol: str
    ports: tuple[int, ...]
    opaque: bool


class Attached(Struct, frozen=True):
    """A header of every request to one host."""

    domain: str
    header: str
    value: str


class Names(Struct, frozen=True, kw_only=True):
    """What a policy says of names, and what the proxy has to know besides."""

    allow: tuple[NameRule, ...]
    deny: tuple[str, ...]
    deny_nets: tuple[str, ...]
    resolve: bool
    attached: tuple[Attached, ...] = ()


class Hello(Struct, frozen=True, tag=True):
    resolvers: tuple[str, ...]
    """Addresses to ask; empty: as the host does."""
    floor: tuple[str, ...]


class Learn(Struct, frozen=True, tag=True):
    group: int
    names: Names


class Unlearn(Struct, frozen=True, tag=True):
    group: int


class Assign(Struct, frozen=True, tag=True):
    """The sandbox with these addresses is under this group's policy; answered by Done. What it had
    open under another is cut."""

    id: int
    """Never the same twice: an address may be another sandbox's when what was seen of one is told."""
    addresses: tuple[str, str]
    group: int
    member: str = ""
    """What its group's other sandboxes call it, without `.internal`."""


class Mates(Struct, frozen=True, tag=True):
    """Who is in this group on other nodes, instead of who was: name -> addresses."""

    group: int
    names: dict[str, tuple[str, str]]


class Release(Struct, frozen=True, tag=True):
    """These addresses are nobody's from now on; answered by Done."""

    id: int
    addresses: tuple[str, str]


class Nobody(Struct, frozen=True, tag=True):
    """Answer to Who, where it is not Assign."""

    address: str


class Opened(Struct, frozen=True, tag=True):
    """Answer to Open."""

    id: int
    done: bool


class Done(Struct, frozen=True, tag=True):
    id: int


class Who(Struct, frozen=True, tag=True):
    """Which sandbox has this address? It has sent something, and was not told of before."""

    address: Text


class Target(Struct, frozen=True):
    protocol: Text
    port: Annotated[int, Meta(ge=1, le=65_535)]
    address: Text
    ttl: Annotated[int, Meta(ge=1, le=86_400)]
    proxied: bool


class Open(Struct, frozen=True, tag=True):
    id: int
    sandbox: Text
    targets: Annotated[tuple[Target, ...], Meta(max_length=1_024)]


class Seen(Struct, frozen=True, tag=True):
    """Something to be written down: a name asked for, a connection through the proxy."""

    assignment: int
    """`Assign.id` of what it was under."""
    what: Text
    """`name` or `connection`."""
    verdict: Text
    """`allowed`, or why not."""
    name: Text = ""
    address: Text = ""
    port: int = 0
    sent: int = 0
    received: int = 0


ToGuard = Hello | Learn | Unlearn | Assign | Mates | Release | Nobody | Opened
ToNode = Done | Who | Open | Seen
to_guard = msgspec.msgpack.Decoder(ToGuard)
to_node = msgspec.msgpack.Decoder(ToNode)
_encoder = msgspec.msgpack.Encoder()


def frame(message: ToGuard | ToNode) -> bytes:
    body = _encoder.encode(message)
    return _HEAD.pack(len(body)) + body


async def read(reader: asyncio.StreamReader) -> bytes:
    """The next frame's body. Raises EOFError at the end, ValueError for one that is too long."""
    try:
        (size,) = _HEAD.unpack(await reader.readexactly(_HEAD.size))
        if size > _FRAME_MAX:
            raise ValueError(f"a frame of {size} bytes")
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as error:
        raise EOFError from error
