"""Webhooks: where something is told, and by what it is known to be ours."""

from typing import Annotated

from msgspec import Meta, Struct

from sandboxd.model.session_event import EventType


class Callback(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A webhook: the result is POSTed there."""

    url: Annotated[str, Meta(min_length=1, max_length=2048)]
    secret: Annotated[str, Meta(min_length=16, max_length=256)] | None = None
    """Key of the signature (Standard Webhooks, HMAC-SHA256); None: unsigned."""


class SandboxCallback(Callback, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A webhook: what happens to the sandbox is POSTed there."""

    events: Annotated[list[EventType], Meta(max_length=16)] = []
    """Only these; none: all."""
