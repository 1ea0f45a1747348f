"""Ids of sandboxes and processes: chosen here, unguessable."""

import base64
import hashlib
import hmac
import re
import secrets

from sandboxd.model.context import LANGUAGE
from sandboxd.model.context import default_context_id as default_context_id

_SANDBOX = re.compile(r"sbx_[a-z2-7]{26}")
_PROCESS = re.compile(r"prc_[a-z2-7]{26}")
CONTEXT_ID = f"^ctx_([a-z2-7]{{26}}|{LANGUAGE})$"
_CONTEXT = re.compile(CONTEXT_ID)
_DEFAULT = re.compile(f"ctx_({LANGUAGE})")


def new_sandbox_id() -> str:
    """`sbx_` and 130 random bits in lower-case base32."""
    return "sbx_" + _text(secrets.token_bytes(17))


def repeated_sandbox_id(secret: bytes, tenant: str, key: str) -> str:
    """The id that belongs to an Idempotency-Key: the same for each repetition, a guess for nobody."""
    said = b"\0".join((b"sandbox", tenant.encode(), key.encode()))
    return "sbx_" + _text(hmac.digest(secret, said, hashlib.sha256))


def new_process_id() -> str:
    return "prc_" + _text(secrets.token_bytes(17))


def new_context_id() -> str:
    return "ctx_" + _text(secrets.token_bytes(17))


def is_context_id(text: str) -> bool:
    """Of a process that is a context, too."""
    return _CONTEXT.fullmatch(text) is not None


def default_language(context: str) -> str | None:
    """Of a default context, whose id it is in; None for one that somebody made."""
    found = _DEFAULT.fullmatch(context)
    return found and found[1]


def is_sandbox_id(text: str) -> bool:
    return _SANDBOX.fullmatch(text) is not None


def is_process_id(text: str) -> bool:
    return _PROCESS.fullmatch(text) is not None


def _text(data: bytes) -> str:
    return base64.b32encode(data)[:26].decode().lower()
