"""What E2B calls envd, the server in a sandbox: RPC of processes and files, and plain HTTP.

It runs in the gateway. Its routes for E2B's own machinery (`/init`, `/freeze` and the like) are nobody's
here.
"""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from sandboxd.gateway.adapters.e2b import metrics
from sandboxd.gateway.adapters.e2b.bodies import Bodies, answer, nothing
from sandboxd.gateway.adapters.e2b.errors import SandboxGone
from sandboxd.gateway.adapters.e2b.files import Files
from sandboxd.gateway.adapters.e2b.filesystem import Filesystem
from sandboxd.gateway.adapters.e2b.identity import Target, shown
from sandboxd.gateway.adapters.e2b.process import Processes
from sandboxd.gateway.adapters.e2b.rpc import Rpc
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.sessions.names import new_process_id
from sandboxd.model import agent
from sandboxd.model.session import ProcessRequest, ProcessResult, Sandbox, SandboxState


class Envd:
    """An ASGI application, for requests that have `e2b.target` and `e2b.path` in their scope."""

    def __init__(self, gateway: Gateway, bodies: Bodies) -> None:
        self._gateway = gateway
        self._files = Files(gateway)
        self._rpc = Rpc(
            gateway, bodies, Processes(gateway).methods() | Filesystem(gateway).methods()
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["e2b.path"], scope["method"]
        if method == "POST" and self._rpc.has(path):
            await self._rpc(scope, receive, send)
            return
        request = Request(scope, receive)
        response = await self._plain(request, path, scope["e2b.target"])
        await response(scope, receive, send)

    async def _plain(self, request: Request, path: str, target: Target) -> ASGIApp:
        match request.method, path:
            case (("GET" | "HEAD"), "/files"):
                return await self._files.get(request, target)
            case "POST", "/files":
                return await self._files.post(request, target)
            case "GET", "/health":
                await self._check(target)
                return nothing()
            case "GET", "/metrics":
                sample = await metrics.sample(self._gateway, target.tenant, target.sandbox)
                return answer(_of_envd(sample))
            case "GET", "/envs":
                return answer(await self._environment(target))
        raise HTTPException(404, f"there is no {request.method} {path}")

    async def _check(self, target: Target) -> None:
        """Raises SandboxGone for one that does not run, without waking it."""
        call = agent.Get(tenant=target.tenant, sandbox=target.sandbox)
        found = await self._gateway.sandboxes.ask(call, Sandbox)
        if found.state is not SandboxState.RUNNING:
            raise SandboxGone(
                f"the sandbox {shown(target.sandbox)} was not found: it is {found.state}"
            )

    async def _environment(self, target: Target) -> dict[str, str]:
        """Of every process, as a process says it."""
        process = ProcessRequest(command=["env", "-0"], timeout=10.0)
        call = agent.Run(
            tenant=target.tenant, sandbox=target.sandbox, id=new_process_id(), process=process
        )
        result = await self._gateway.sandboxes.ask(call, ProcessResult)
        lines = result.stdout.decode(errors="replace").split("\0")
        return {name: value for name, equals, value in (x.partition("=") for x in lines) if equals}


def _of_envd(sample: dict[str, object]) -> dict[str, object]:
    return {
        "ts": sample["timestampUnix"],
        "cpu_count": sample["cpuCount"],
        "cpu_used_pct": sample["cpuUsedPct"],
        "mem_total": sample["memTotal"],
        "mem_used": sample["memUsed"],
        "disk_used": sample["diskUsed"],
        "disk_total": sample["diskTotal"],
    }
