"""Whose images are whose: the names of a tenant's images in the store, and what it may see.

A tenant's own lie below `tenants/<tenant>/`; every other name is the operator's, and all may use it. The
tenant's own comes first.
"""

import re
from collections.abc import Iterator

from sandboxd.drivers.graph.images import Images, Summary, full_name
from sandboxd.drivers.graph.store import Tag
from sandboxd.errors import InvalidImage, QuotaExceeded, UnknownImage

_TOP = "tenants/"
_DIGEST = re.compile(r"(sha256:)?[0-9a-f]{64}\Z")


def stored_name(tenant: str, name: str) -> str:
    """A tenant's own name in the store. Raises InvalidImage."""
    full = full_name(name)
    if full.startswith(_TOP):
        raise InvalidImage(f"{name[:80]!r}: names below {_TOP} are not for use")
    return full_name(_prefix(tenant) + full)


def shown_name(tenant: str, stored: str) -> tuple[str, bool] | None:
    """What a tenant calls an image of the store and whether it is shared; None if it is not its."""
    prefix = _prefix(tenant)
    if stored.startswith(prefix):
        return stored.removeprefix(prefix), False
    return None if stored.startswith(_TOP) else (stored, True)


def resolve(images: Images, tenant: str, name: str) -> str:
    """The digest of what a tenant means by a name or a whole digest. Raises UnknownImage."""
    if _DIGEST.match(name):
        wanted = "sha256:" + name.removeprefix("sha256:")
        if any(tag.digest == wanted for tag, _, _ in visible(images, tenant)):
            return wanted
        raise UnknownImage(f"no image {wanted}")
    found = {shown: tag.digest for tag, shown, shared in visible(images, tenant) if shared}
    found |= {shown: tag.digest for tag, shown, shared in visible(images, tenant) if not shared}
    full = full_name(name)
    if full not in found:
        raise UnknownImage(f"no image named {full}")
    return found[full]


def visible(images: Images, tenant: str) -> Iterator[tuple[Tag, str, bool]]:
    """Every name that a tenant may use, as it calls it, and whether it is shared."""
    for tag in images.store.tags():
        shown = shown_name(tenant, tag.name)
        if shown is not None:
            yield tag, *shown


def give(images: Images, tenant: str, name: str, digest: str, most: int) -> None:
    """Let an image be the tenant's by this name. The layers of all that the tenant then has, each counted
    once, have at most `most` bytes. Raises InvalidImage, UnknownImage, QuotaExceeded."""
    stored = stored_name(tenant, name)

    def within_quota() -> None:
        kept = [
            tag.digest
            for tag, _, shared in visible(images, tenant)
            if not shared and tag.name != stored
        ]
        sizes: dict[str, int] = {}
        for each in (*kept, digest):
            manifest = images.details(each).manifest
            sizes |= {layer.digest: layer.size for layer in manifest.layers}
        if sum(sizes.values()) > most:
            raise QuotaExceeded(f"images of {tenant} have at most {most} bytes")

    images.store.tag(stored, digest, within_quota)


def summaries(images: Images, tenant: str) -> Iterator[tuple[Summary, str, bool]]:
    for summary in images.summaries():
        shown = shown_name(tenant, summary.name)
        if shown is not None:
            yield summary, *shown


def _prefix(tenant: str) -> str:
    """Injective, and a path of plain letters whatever a tenant is called."""
    letters = (
        char if char.isascii() and char.isalnum() and char == char.lower() else f"-{ord(char):02x}"
        for char in tenant
    )
    return f"{_TOP}{''.join(letters)}/"
