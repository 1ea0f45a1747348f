"""One Settings object: the TOML file, then SANDBOXD_* variables, then `--set` flags.

`[gateway] listen` in the file is `SANDBOXD_GATEWAY_LISTEN` in the environment and
`--set gateway.listen=…` on the command line. A name that does not exist is an error in the file
and on the command line; in the environment too, since a misspelt limit must not be ignored.
"""

import os
import re
import socket
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta, Struct

from sandboxd.errors import SandboxdError
from sandboxd.model.names import Name

_PREFIX = "SANDBOXD_"
_NOT_SETTINGS = {"SANDBOXD_CONFIG", "SANDBOXD_URL", "SANDBOXD_API_KEY", "SANDBOXD_READY_FD"}
"""Variables of the command line, the supervisor and the client SDK that share the prefix."""

_WORD_LISTS = {
    ("isolation", "require"),
    ("adapters", "enabled"),
    ("judge", "cores"),
    ("network", "private"),
    ("network", "resolvers"),
    ("graph", "registries"),
}

Seconds = Annotated[float, Meta(gt=0)]
Quota = Annotated[int, Meta(ge=0)]
TenantName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9+_.-]{0,63}\Z")]


class SettingsError(SandboxdError):
    """The settings do not make sense; the text says which one."""

    code, title = "settings", "Bad settings"


class RedisSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str = ""
    """Empty: run a private server on a unix socket."""
    server: str = ""
    """The private server's executable; empty: the first of valkey-server, redis-server in PATH."""
    fsync: Literal["no", "everysec", "always"] = "no"
    """Of the private server's append-only file. Its writes reach the kernel before a request is
    answered only with `no` and `always` (with `everysec` they wait while a sync is under way), so
    `no` survives `kill -9` of the server, and `always` power loss too, at a sync per request."""
    maxmemory: int = 2 << 30
    """Bytes; a full server refuses new runs, it never evicts."""
    uid: int = 64_320
    """The private server's user, if started as root."""


class QueueSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=r"^([a-z0-9][a-z0-9-]{0,31})?\Z")] = ""
    """Gateways and nodes with the same Redis and name work on the same jobs; empty: the instance's. Two
    instances on one machine can so share a queue, and have host objects of their own."""
    max_length: Annotated[int, Meta(ge=1)] = 10_000
    """Jobs waiting at once; one more is answered 429."""
    result_ttl: Seconds = 900.0
    """Seconds that a result and its events are kept."""
    lease: Seconds = 15.0
    """Seconds after which a node that fell silent loses its jobs."""
    events_max: int = 1_000
    """Events kept per run."""


class GatewaySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    listen: str = "127.0.0.1:7070"
    """`host:port`, or `unix:/path`."""
    uid: int = 64_321
    """The gateway's user and group, if started as root."""
    keys_file: str = ""
    """File of `tenant:sha256-hex-of-key` lines. Without one, only loopback is listened on and
    every request belongs to the tenant `default`."""
    mcp: bool = False
    """Serve tools of the Model Context Protocol at `/mcp`; needs the extra `sandboxd[mcp]`, and takes a
    second of start and 40 MB."""
    ports_url: str = ""
    """`http://example.org[:port]`: port 80 of a sandbox is then a site, `http://80-sbx-….example.org[:port]`,
    for whoever has a link. All names below the domain have to lead here. Empty: only the API's paths."""
    max_body: int = 16 << 20
    header_timeout: Seconds = 10.0
    body_timeout: Seconds = 30.0
    idle_timeout: Seconds = 60.0
    """Keep-alive connections without a request are closed after it."""
    total_timeout: Seconds = 900.0
    """A request that still waits for its result is then answered 202; streams are closed."""
    outage_timeout: Seconds = 15.0
    """Waiting requests are answered 503 when the queue has been silent that long."""
    shutdown_timeout: Seconds = 10.0
    """A gateway that is told to stop answers waiting requests that long, then 503."""
    max_connections: int = 2_000
    max_waiting: int = 2_000
    """Requests that may wait for a result at once; one more is answered 503."""
    tenant_max_jobs: int = 5_000
    """Unfinished jobs of one tenant; one more is answered 429."""


class CourierSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    uid: int = 64_322
    """The courier's user, if started as root; its group is the gateway's, which Redis lets in. The node's
    socket knows the gateway's user alone."""


class NodeSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str = ""
    """Name in the queue, stable over restarts; empty: host name and instance."""
    cpu_capacity: float = 0.0
    """Cores that admission hands out; 0: twice the cores of the machine, since a run waits for
    its files and pipes about as long as it computes."""
    memory_capacity: int = 0
    """Bytes that admission hands out; 0: three quarters of the machine's memory."""
    build_concurrency: Annotated[int, Meta(ge=1, le=64)] = 4
    """Sandboxes built at once, off the path of a run."""
    pool_max_age: Seconds = 600.0
    """Seconds after which a warm sandbox that nobody wanted is replaced."""
    uid_base: int = 0x2000_0000
    """First host uid of the sandboxes' ranges."""
    uid_slots: Annotated[int, Meta(ge=1, le=24_576)] = 4_096
    """Ranges of 65,536 uids, one per live sandbox."""
    heartbeat: Seconds = 2.0
    collect_max: int = 16 << 20
    """Bytes of all collected files of one run."""
    apparmor_parser: str = "/sbin/apparmor_parser"


class IsolationSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    require: list[str] = msgspec.field(
        default_factory=lambda: [
            "userns", "pidns", "mountns", "netns", "ipcns", "utsns", "cgroupns",
            "overlay", "capabilities", "no_new_privs", "seccomp",
            "cgroup_memory", "cgroup_pids", "cgroup_cpu", "cgroup_kill",
        ]
    )  # fmt: skip
    """A node without one of these layers does not start. Add `landlock`, `apparmor` where wanted."""


class HostImageSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    binds: dict[str, str] = {}
    """Further read-only directories of the `host` image: path inside under /opt -> path outside."""


class GraphSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: str = ""
    """Directory of the store; empty: `graph` in the instance's part of state_dir."""
    uid_base: int = 0x1FFF_0000
    """First of the 65,536 host uids that own the files of unpacked layers."""
    layer_bytes_max: Annotated[int, Meta(ge=1 << 20)] = 16 << 30
    """Uncompressed bytes of one layer; more is refused."""
    layer_entries_max: Annotated[int, Meta(ge=1_000)] = 500_000
    registries: list[str] = []
    """`host[:port]` of those that tenants may pull from and push to, with the node's credentials, by
    the API; none by default, since the node asks them from where it stands."""
    tenant_images_max: int = 20 << 30
    """Bytes of layers of one tenant's images, as they are transferred."""
    tenant_volumes_max: int = 20 << 30
    """Bytes of one tenant's volumes."""
    context_max: int = 1 << 30
    """Bytes of a build's context, or of a root file system, sent by the API."""
    builds: Annotated[int, Meta(ge=1, le=64)] = 2
    """Builds and imports of the API at once; others wait."""
    collect_every: Seconds = 900.0
    """Seconds after which a node removes what no name, sandbox or command needs any more; what builds
    made and no image has goes too, so that a step is then run again."""


class JudgeSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    parallel: Annotated[int, Meta(ge=1, le=64)] = 2
    """Cases of a submission that run at once where it does not say."""
    cases_max: Annotated[int, Meta(ge=1, le=5_000)] = 2_000
    """Cases of one submission."""
    file_max: int = 16 << 20
    """Bytes of one uploaded file, and of one file of a problem package."""
    file_ttl: Seconds = 86_400.0
    """Seconds that an uploaded file is kept."""
    tenant_files_max: int = 64 << 20
    """Bytes of one tenant's uploaded files."""
    package_max: int = 32 << 20
    """Bytes of an uploaded problem package."""
    problem_max: int = 64 << 20
    """Bytes of one problem, unpacked."""
    tenant_problems_max: int = 256 << 20
    """Bytes of one tenant's problems."""
    problems_max: int = 512 << 20
    """Bytes of all problems; they lie in Redis, see redis.maxmemory."""
    artifacts_max: int = 128 << 20
    """Bytes of compiled programs that a node keeps for the next submission of the same source."""
    artifacts_shared: int = 64 << 20
    """Bytes of compiled programs that lie in Redis for the other nodes; 0: each node compiles itself."""
    artifact_shared_max: int = 4 << 20
    """Bytes of one of them; what is larger is compiled again where it is wanted."""
    data_max: int = 128 << 20
    """Bytes of cases that a node keeps."""
    checker_memory: int = 256 << 20
    """Bytes of memory of checkers and interactors, beside the files that they are given."""
    checker_time: Seconds = 10.0
    """CPU seconds of a checker; an interactor gets the program's time limit besides."""
    cores: list[int] = []
    """Cores on which cases run, one at a time on each, and nothing else of this service: neighbours
    then distort no times. Empty: cases run where there is room."""
    callback_private: bool = False
    """Deliver webhooks to loopback and private addresses too."""
    callback_attempts: Annotated[int, Meta(ge=1, le=20)] = 6
    """Tries of a webhook, with growing pauses between them."""


class MacvlanSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network that one of this host's interfaces is on, for sandboxes of policies that say so. Their
    packets do not meet the host's firewall, only the one in their own namespace."""

    interface: str
    """The host's name of it."""
    tenants: list[str] = []
    """Who may be on it, whatever a policy says; `*` is everybody."""
    ipv4: str = ""
    """Range of addresses that nobody else on that network has; one address is a range of one. Empty: none
    of this family."""
    gateway4: str = ""
    """The router, with the length of the network's prefix: `192.168.7.1/24`."""
    ipv6: str = ""
    gateway6: str = ""
    private: list[str] = []
    """As `network.private`, for these sandboxes; that network's own range too is closed without it."""


class NetworkSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    enabled: bool = False
    """Give sandboxes networks. The node then switches its network namespace to forwarding, and keeps
    a firewall table and address translation of its own there; without it, it touches nothing."""
    ipv4: str = "10.213.0.0/16"
    """Addresses of sandboxes, and of the node as they see it; must be used by nobody else."""
    ipv6: str = "fd5d:b0c5:ab1e::/64"
    slots: Annotated[int, Meta(ge=1, le=32_768)] = 2_048
    """Sandboxes with a network at once."""
    warm: Annotated[int, Meta(ge=0, le=1_024)] = 8
    """Network slots kept made ahead."""
    pool_size: Annotated[int, Meta(ge=0, le=10_000)] = 2
    """Sandboxes with a network kept built ahead, of each template."""
    private: list[str] = []
    """Private ranges that policies may open; everything else of the floor stays closed."""
    resolvers: list[str] = []
    """Addresses of the name servers that our resolver asks; empty: those of /etc/resolv.conf."""
    secrets_file: str = ""
    """TOML file of `name = "value"` lines for the policies' `[[attach]]`; root's alone to read."""
    authorities: str = ""
    """PEM file of the certificate authorities by which the proxy knows the hosts that it attaches secrets
    for; empty: the system's."""
    uid: int = 64_323
    """User and group of the process that reads the sandboxes' questions and first words."""
    overlay: str = ""
    """This node's address on a network that nodes share and nobody else reaches; groups then span nodes,
    each of which needs ranges of its own. By vxlan. Empty: groups are of one node."""
    overlay_encryption: Literal["none", "wireguard"] = "none"
    """`wireguard`: what nodes tell each other for sandboxes goes through a tunnel, and what comes in the
    clear is dropped; a node whose kernel has none does not start. The same on every node."""
    overlay_port: Annotated[int, Meta(ge=1, le=65_535)] = 51_821
    """UDP port of this node's WireGuard."""
    overlay_secret_file: str = ""
    """File of at least 32 bytes, root's alone to read and the same on every node, by which nodes know
    what nodes have told. Empty: whoever can write into Redis is a node."""
    overlay_id: Annotated[int, Meta(ge=1, le=0xFF_FFFF)] = 5_213
    """Number of that network (VNI), the same on every node."""
    macvlan: dict[Name, MacvlanSettings] = {}
    """Interfaces of this host that sandboxes may be put on, by the name that a policy's `interface` says.
    Needs nftables, whatever `firewall` is."""
    firewall: Literal["auto", "nftables", "iptables"] = "auto"
    """`auto`: the first of them that is seen to stop packets on this host."""
    nat: bool = True
    """Sandboxes appear under the node's address; off where their ranges are routed."""


class SessionSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tenant_max: Annotated[int, Meta(ge=0)] = 1_000
    """Live sandboxes of one tenant; one more is answered 429."""
    max: Annotated[int, Meta(ge=0)] = 2_000
    """Live sandboxes of one node."""
    timeout_max: Seconds = 7 * 86_400.0
    """Longest time to live that a request may ask for."""
    processes_max: Annotated[int, Meta(ge=1, le=512)] = 128
    """Processes of one sandbox that were started through the API and run at once."""
    pause_to_swap: bool = False
    """Let the memory of paused sandboxes go to the machine's swap, where it may outlive them; what is
    cached of files goes in any case."""
    metrics_interval: Annotated[float, Meta(ge=0)] = 10.0
    """Seconds between the samples of what each sandbox uses; 0: none are taken."""
    metrics_kept: Annotated[int, Meta(ge=1, le=100_000)] = 360
    """Samples of each sandbox; 64 bytes each."""
    output_memory: int = 256 << 20
    """Bytes of processes' output that the node keeps for those who attach later, all together."""


class AdapterSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    enabled: list[str] = msgspec.field(
        default_factory=lambda: ["judge0", "piston", "go_judge", "sandboxfusion", "e2b"]
    )
    """Other services' APIs that are served below /compat/NAME of the gateway."""
    judge0_listen: str = ""
    """`host:port` or `unix:/path` on which an adapter is served by itself; empty: nowhere."""
    piston_listen: str = ""
    go_judge_listen: str = ""
    sandboxfusion_listen: str = ""
    e2b_listen: str = ""
    judge0_host: str = ""
    """Name in the Host header by which an adapter is meant, on every listener; empty: none."""
    piston_host: str = ""
    go_judge_host: str = ""
    sandboxfusion_host: str = ""
    e2b_host: str = ""
    e2b_network: str = "internet"
    """The egress policy of sandboxes that E2B's clients do not cut off, where a tenant may have it."""


class TenantSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[tenants.NAME]` of the file: what one tenant may have, where it is not what all may."""

    jobs: Quota | None = None
    """Instead of `gateway.tenant_max_jobs`."""
    sandboxes: Quota | None = None
    """Instead of `sessions.tenant_max`."""
    files: Quota | None = None
    """Bytes; instead of `judge.tenant_files_max`."""
    problems: Quota | None = None
    """Bytes; instead of `judge.tenant_problems_max`."""
    images: Quota | None = None
    """Bytes; instead of `graph.tenant_images_max`."""
    volumes: Quota | None = None
    """Bytes; instead of `graph.tenant_volumes_max`."""


class Quotas(Struct, frozen=True, kw_only=True):
    """What a tenant may have at once: numbers of jobs and sandboxes, bytes of the rest."""

    jobs: int
    sandboxes: int
    files: int
    problems: int
    images: int
    volumes: int


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    instance: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z")] = "default"
    """Names every host object of this installation."""
    policies: str = ""
    """Directory of the operator's policy files; empty: those that were installed."""
    state_dir: str = "/var/lib/sandboxd"
    run_dir: str = "/run/sandboxd"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    redis: RedisSettings = RedisSettings()
    queue: QueueSettings = QueueSettings()
    gateway: GatewaySettings = GatewaySettings()
    courier: CourierSettings = CourierSettings()
    node: NodeSettings = NodeSettings()
    isolation: IsolationSettings = IsolationSettings()
    host_image: HostImageSettings = HostImageSettings()
    graph: GraphSettings = GraphSettings()
    judge: JudgeSettings = JudgeSettings()
    network: NetworkSettings = NetworkSettings()
    sessions: SessionSettings = SessionSettings()
    adapters: AdapterSettings = AdapterSettings()
    tenants: dict[TenantName, TenantSettings] = {}

    def quotas(self, tenant: str) -> Quotas:
        general = {
            "jobs": self.gateway.tenant_max_jobs,
            "sandboxes": self.sessions.tenant_max,
            "files": self.judge.tenant_files_max,
            "problems": self.judge.tenant_problems_max,
            "images": self.graph.tenant_images_max,
            "volumes": self.graph.tenant_volumes_max,
        }
        own = msgspec.structs.asdict(self.tenants.get(tenant, TenantSettings()))
        return Quotas(**general | {name: most for name, most in own.items() if most is not None})

    @property
    def node_name(self) -> str:
        """The node's name in the queue, and among other nodes."""
        return self.node.id or f"{socket.gethostname()}-{self.instance}"

    @property
    def run_path(self) -> Path:
        """Sockets and scratch mount points of this instance."""
        return Path(self.run_dir) / self.instance

    @property
    def state_path(self) -> Path:
        """Images and queue files of this instance."""
        return Path(self.state_dir) / self.instance

    @property
    def graph_path(self) -> Path:
        """The store of images and layers."""
        return Path(self.graph.path) if self.graph.path else self.state_path / "graph"

    @property
    def node_socket(self) -> Path:
        return self.run_path / "node" / "agent.sock"

    @property
    def images_socket(self) -> Path:
        """Where the node answers about images and volumes."""
        return self.run_path / "node" / "images.sock"

    @property
    def keeper_socket(self) -> Path:
        """Where `sandboxd/keeper.py` holds descriptors for the node."""
        return self.run_path / "keeper.sock"

    @property
    def queue_root(self) -> str:
        """What every key of this queue in Redis begins with."""
        return f"sandboxd:{{{self.queue.name or self.instance}}}:"

    @property
    def redis_socket(self) -> Path:
        return self.run_path / "redis" / "redis.sock"

    @property
    def redis_url(self) -> str:
        return self.redis.url or f"unix://{self.redis_socket}"

    @property
    def policy_path(self) -> Path:
        if self.policies:
            return Path(self.policies)
        here = Path(__file__).parent
        installed = here / "_policies"
        return installed if installed.is_dir() else here.parent / "policies"


def load(
    file: str | None = None,
    environ: Mapping[str, str] = os.environ,
    flags: Iterable[str] = (),
) -> Settings:
    """Settings from `file` (TOML), `environ` and `flags` (`section.name=value`), later ones winning.

    Raises SettingsError, naming the setting.
    """
    file = file or environ.get("SANDBOXD_CONFIG")
    tree: dict[str, Any] = {}
    if file:
        try:
            tree = tomllib.loads(Path(file).read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{file}: {error}") from error
    known = _known()
    for variable, text in environ.items():
        if variable.startswith(_PREFIX) and variable not in _NOT_SETTINGS:
            path = known.get(variable.removeprefix(_PREFIX).lower())
            if path is None:
                raise SettingsError(f"{variable}: there is no such setting")
            _put(tree, path, text)
    for flag in flags:
        name, separator, text = flag.partition("=")
        path = known.get(name.replace(".", "_"))
        if not separator or path is None:
            raise SettingsError(f"--set {flag}: expected section.name=value of a known setting")
        _put(tree, path, text)
    try:
        return msgspec.convert(tree, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(str(error)) from error


def _known() -> dict[str, tuple[str, ...]]:
    """`gateway_listen` -> `("gateway", "listen")` for every scalar and list setting."""
    known: dict[str, tuple[str, ...]] = {}
    for name, hint in get_type_hints(Settings).items():
        if isinstance(hint, type) and issubclass(hint, Struct):
            known |= {f"{name}_{inner}": (name, inner) for inner in hint.__struct_fields__}
        else:
            known[name] = (name,)
    return known


def _put(tree: dict[str, Any], path: tuple[str, ...], text: str) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    if path in _WORD_LISTS:
        tree[path[-1]] = [word for word in re.split(r"[,\s]+", text) if word]
    elif path[-1] == "binds":
        tree[path[-1]] = dict(pair.split("=", 1) for pair in text.split(",") if "=" in pair)
    else:
        tree[path[-1]] = text
