"""Credentials by Docker's conventions: `config.json` with `auths`, `credHelpers`, `credsStore`."""

import base64
import binascii
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from sandboxd.errors import DriverFault

_HELPER = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
_HELPER_SECONDS = 30.0
_DOCKER_KEY = "https://index.docker.io/v1/"


class Credentials(Struct, frozen=True):
    username: str = ""
    password: str = ""
    token: str = ""
    """An identity token, to be exchanged for access tokens."""


class _Auth(Struct, frozen=True, rename="lower"):
    auth: str = ""
    username: str = ""
    password: str = ""
    identitytoken: str = ""


class _Config(Struct, frozen=True):
    auths: dict[str, _Auth] = {}
    helpers: dict[str, str] = msgspec.field(default_factory=dict, name="credHelpers")
    store: str = msgspec.field(default="", name="credsStore")


class _Helped(Struct, frozen=True, rename="pascal"):
    username: str
    secret: str


def credentials(registry: str, environ: Mapping[str, str] = os.environ) -> Credentials | None:
    """What the configuration has for a registry. Raises DriverFault for one that cannot be read."""
    home = Path(environ.get("HOME", "/root"))
    path = Path(environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json"
    try:
        config = msgspec.json.decode(path.read_bytes(), type=_Config)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise DriverFault("registry", f"read {path}", str(error)) from error
    key = _DOCKER_KEY if registry == "docker.io" else registry
    helper = config.helpers.get(registry) or config.store
    if helper:
        return _ask(helper, key)
    for name, auth in config.auths.items():
        if name == key or _host(name) == registry:
            return _plain(auth, path)
    return None


def _host(key: str) -> str:
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def _plain(auth: _Auth, path: Path) -> Credentials:
    username, password = auth.username, auth.password
    if auth.auth:
        try:
            username, _, password = (
                base64.b64decode(auth.auth, validate=True).decode().partition(":")
            )
        except (binascii.Error, UnicodeDecodeError):
            raise DriverFault("registry", f"read {path}", "`auth` is not base64") from None
    return Credentials(username, password, auth.identitytoken)


def _ask(helper: str, key: str) -> Credentials | None:
    if not _HELPER.match(helper):
        raise DriverFault("registry", "ask the credential helper", f"{helper!r} is not a name")
    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=key.encode(), capture_output=True, timeout=_HELPER_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            return None  # it has none for this registry
        given = msgspec.json.decode(done.stdout, type=_Helped)
    except (OSError, subprocess.TimeoutExpired, msgspec.DecodeError) as error:
        raise DriverFault("registry", f"ask docker-credential-{helper}", str(error)) from error
    if given.username == "<token>":
        return Credentials(token=given.secret)
    return Credentials(given.username, given.secret)
