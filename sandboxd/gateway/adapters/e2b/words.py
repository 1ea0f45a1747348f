"""E2B's documents of sandboxes, and what they mean here. Pure."""

from datetime import datetime
from math import ceil
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from sandboxd.errors import InvalidRequest
from sandboxd.gateway.adapters.e2b.errors import NotOffered
from sandboxd.gateway.adapters.e2b.identity import shown
from sandboxd.model.session import Sandbox, SandboxRequest, SandboxState
from sandboxd.model.stored import ImageDetail

ENVD_VERSION = "0.6.2"
"""What clients take a sandbox' server to be: the first to which they send metadata of files."""
BASE = "base"
_OURS = frozenset({BASE, "code-interpreter-v1", "code-interpreter"})
"""Templates that E2B's clients ask for unless told otherwise: our one for sandboxes."""
NOTES = "sandboxd.e2b"
"""The metadata in which a sandbox keeps what only E2B's documents say of it."""
HOME = "/home/user"
_ENVIRONMENT = {
    "HOME": HOME,
    "USER": "user",
    "LOGNAME": "user",
    "SHELL": "/bin/bash",
    "PATH": "/opt/sandboxd/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "E2B_SANDBOX": "true",
}
_NOT_OFFERED = ("rules", "egress_proxy", "dns_servers", "mask_request_host", "https_ports")
_EVERYTHING = ("0.0.0.0/0", "::/0")
_MIB = 1 << 20
CPUS, MEMORY = "sandboxd.e2b.cpus", "sandboxd.e2b.memory"
"""Labels of an image: what sandboxes on it are to have, in cores and MiB."""


class AutoResume(Struct, frozen=True):
    enabled: bool = False


class Network(Struct, frozen=True, rename="camel"):
    """Egress as E2B has it. Rules of one sandbox' own are not offered."""

    allow_public_traffic: bool | None = None
    allow_out: list[str] | None = None
    deny_out: list[str] | None = None
    allow_internet_access: bool | None = msgspec.field(default=None, name="allow_internet_access")
    dns_servers: list[str] | None = None
    egress_proxy: Any = None
    mask_request_host: str | None = None
    https_ports: list[int] | None = None
    rules: dict[str, Any] | None = None


class VolumeMount(Struct, frozen=True):
    name: str
    path: str


class NewSandbox(Struct, frozen=True, rename="camel"):
    """Body of `POST /v2/sandboxes` and of the older `POST /sandboxes`."""

    template_id: Annotated[str, Meta(min_length=1, max_length=255)] = msgspec.field(
        name="templateID"
    )
    timeout: Annotated[float, Meta(gt=0)] | None = None
    auto_pause: bool = False
    auto_pause_memory: bool | None = None
    auto_resume: AutoResume | None = None
    allow_internet_access: bool | None = msgspec.field(default=None, name="allow_internet_access")
    network: Network | None = None
    metadata: dict[str, str] | None = None
    env_vars: dict[str, str] | None = None
    mcp: Any = None
    iam: Any = None
    volume_mounts: list[VolumeMount] | None = None


class Notes(Struct, frozen=True, omit_defaults=True):
    template: str = BASE
    auto_resume: bool = False


def template_wanted(name: str) -> str | None:
    """The template or image that is meant; None for ours."""
    bare = name.removesuffix(":default")
    return None if bare in _OURS else name


def internet(wanted: bool | None, network: Network | None) -> bool | None:
    """Whether it may reach the internet; None where nothing is said. Raises NotOffered for rules that
    only a policy of the operator's can be."""
    if network is None:
        return wanted
    if any(getattr(network, name) for name in _NOT_OFFERED):
        raise NotOffered(
            "network rules, proxies, name servers, ports and host masks of one sandbox are not offered: "
            "the operator's egress policies are"
        )
    if network.allow_internet_access is not None:
        wanted = network.allow_internet_access
    denied, allowed = set(network.deny_out or ()), network.allow_out or []
    if not denied | set(allowed) <= set(_EVERYTHING):
        raise NotOffered(
            "allowOut and denyOut are not offered but for everything (0.0.0.0/0): what lies between "
            "is for the operator's egress policies"
        )
    if allowed:
        return True  # allowOut beats denyOut
    return False if denied else wanted


def request(
    wanted: NewSandbox, image: ImageDetail | None, network: str, default: float
) -> SandboxRequest:
    """Our request. Raises InvalidRequest, NotOffered."""
    if wanted.mcp is not None:
        raise NotOffered("the gateway to MCP servers inside a sandbox is not offered")
    if wanted.iam is not None:
        raise NotOffered("workload identities are not offered")
    metadata = dict(wanted.metadata or {})
    if NOTES in metadata:
        raise InvalidRequest("is the service's own", field=f"metadata.{NOTES}")
    resume = wanted.auto_resume is not None and wanted.auto_resume.enabled
    notes = Notes(template=wanted.template_id, auto_resume=resume)
    metadata[NOTES] = msgspec.json.encode(notes).decode()
    try:
        return msgspec.convert(
            {
                "image": None if image is None else image.name,
                "limits": {} if image is None else _limits(image.labels),
                "volumes": [{"name": x.name, "path": x.path} for x in wanted.volume_mounts or ()],
                "metadata": metadata,
                "env": _environment(image) | (wanted.env_vars or {}),
                "timeout": wanted.timeout or default,
                "on_timeout": "pause" if wanted.auto_pause else "kill",
                "network": network,
            },
            SandboxRequest,
        )
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error)) from None


def _environment(image: ImageDetail | None) -> dict[str, str]:
    """An image says itself where its programs are."""
    kept = image is not None and any(line.startswith("PATH=") for line in image.env)
    return {name: value for name, value in _ENVIRONMENT.items() if not (kept and name == "PATH")}


def _limits(labels: dict[str, str]) -> dict[str, float]:
    """What a template was built to have."""
    found: dict[str, float] = {}
    if (cpus := labels.get(CPUS, "")).isdecimal():
        found["cpus"] = int(cpus)
    if (memory := labels.get(MEMORY, "")).isdecimal():
        found["memory"] = int(memory) * _MIB
    return found


def notes(sandbox: Sandbox) -> Notes:
    """What E2B's documents say beyond the record; of a sandbox that was made in another way too."""
    try:
        return msgspec.json.decode(sandbox.metadata.get(NOTES, "{}"), type=Notes)
    except msgspec.DecodeError:
        return Notes()  # a tenant has written its own


def metadata(sandbox: Sandbox) -> dict[str, str]:
    return {name: value for name, value in sandbox.metadata.items() if name != NOTES}


def opened(sandbox: Sandbox, token: str, domain: str | None) -> dict[str, Any]:
    """The answer to create, connect and fork."""
    template = notes(sandbox).template
    return {
        "templateID": template,
        "sandboxID": shown(sandbox.id),
        "clientID": sandbox.node,
        "alias": template,
        "envdVersion": ENVD_VERSION,
        "envdAccessToken": token,
        "trafficAccessToken": token,
        "domain": domain,
    }


def listed(sandbox: Sandbox) -> dict[str, Any]:
    limits, template = sandbox.limits, notes(sandbox).template
    return {
        "templateID": template,
        "alias": template,
        "sandboxID": shown(sandbox.id),
        "clientID": sandbox.node,
        "startedAt": sandbox.created_at,
        "endAt": sandbox.expires_at,
        "cpuCount": ceil(limits.cpus or 1),
        "memoryMB": (limits.memory or 0) // _MIB,
        "diskSizeMB": (limits.disk or 0) // _MIB,
        "volumeMounts": [{"name": each.name, "path": each.path} for each in sandbox.volumes],
        "state": "paused" if sandbox.state is SandboxState.PAUSED else "running",
        "metadata": metadata(sandbox),
        "envdVersion": ENVD_VERSION,
    }


def detail(sandbox: Sandbox, token: str, domain: str | None) -> dict[str, Any]:
    has_network = sandbox.network != "none"
    return listed(sandbox) | {
        "envdAccessToken": token,
        "domain": domain,
        "allowInternetAccess": has_network,
        "network": {"allowPublicTraffic": False, "denyOut": [] if has_network else ["0.0.0.0/0"]},
        "lifecycle": {
            "autoResume": notes(sandbox).auto_resume,
            "onTimeout": sandbox.on_timeout,
        },
    }


def moment(text: str) -> float:
    """Seconds since the epoch of a time in RFC 3339. Raises InvalidRequest."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        raise InvalidRequest(f"{text[:64]!r} is no time of RFC 3339") from None


class Timeout(Struct, frozen=True):
    timeout: Annotated[float, Meta(gt=0)] | None = None


class Connect(Struct, frozen=True):
    timeout: Annotated[float, Meta(ge=0)] | None = None
    memory: bool | None = None


class Pause(Struct, frozen=True, rename="camel"):
    memory: bool | None = None
    require_healthy_guest: bool | UnsetType = UNSET


class Fork(Struct, frozen=True):
    timeout: Annotated[float, Meta(gt=0)] | None = None
    count: Annotated[int, Meta(ge=1, le=64)] = 1


class NewSnapshot(Struct, frozen=True):
    name: Annotated[str, Meta(max_length=128)] | None = None
    memory: bool | None = None
