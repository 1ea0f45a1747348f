"""Where an image is: registry, repository and tag or digest, from a name as people write it."""

import ipaddress
import re

from msgspec import Struct

from sandboxd.drivers.graph.store import hex_of
from sandboxd.errors import InvalidImage

_DOCKER = "docker.io"
_DOCKER_HOST = "registry-1.docker.io"
_HOST = re.compile(r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?\Z")
_REPOSITORY = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")


class RemoteName(Struct, frozen=True):
    registry: str
    """As people write it and as credentials are kept under: `docker.io`, `localhost:5000`."""
    repository: str
    tag: str
    digest: str = ""
    """If given, the tag is of no account."""

    @property
    def reference(self) -> str:
        return self.digest or self.tag

    @property
    def base(self) -> str:
        """URL of the registry: plain HTTP on this machine's own loopback alone."""
        host = _DOCKER_HOST if self.registry == _DOCKER else self.registry
        return f"{'http' if is_loopback(host) else 'https'}://{host}"

    @property
    def local(self) -> str:
        """The name that the image has in the store, once pulled."""
        return f"{self.registry}/{self.repository}:{self.tag}"


def remote_name(text: str) -> RemoteName:
    """`python:3.12` is Docker's, `host[:port]/repository[:tag][@digest]` anybody's.

    Raises InvalidImage.
    """
    rest, _, digest = text.partition("@")
    if digest:
        hex_of(digest)
    registry, slash, path = rest.partition("/")
    if not (slash and (registry == "localhost" or any(sign in registry for sign in ".:["))):
        registry, path = _DOCKER, rest if slash else f"library/{rest}"
    repository, colon, tag = path.partition(":")
    tag = tag if colon else "latest"
    if (
        len(text) > 400
        or not _HOST.match(registry)
        or not _REPOSITORY.match(repository)
        or not _TAG.match(tag)
    ):
        raise InvalidImage(f"{text[:80]!r} is not a name of an image in a registry")
    return RemoteName(registry, repository, tag, digest)


def is_loopback(host: str) -> bool:
    """Of `host[:port]`."""
    name = host.rpartition("]")[0].lstrip("[") if "]" in host else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
