"""Sorts E2B's requests: to the control plane, or to one of the servers in a sandbox."""

from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandboxd.errors import Unauthorized
from sandboxd.gateway.adapters.e2b import errors, identity
from sandboxd.gateway.adapters.e2b.bodies import Bodies, nothing
from sandboxd.gateway.adapters.e2b.control import Control
from sandboxd.gateway.adapters.e2b.envd import Envd
from sandboxd.gateway.adapters.e2b.errors import NotOffered, SandboxGone
from sandboxd.gateway.adapters.e2b.images import Images
from sandboxd.gateway.adapters.e2b.interpreter import Interpreter
from sandboxd.gateway.adapters.e2b.listing import Listing
from sandboxd.gateway.adapters.e2b.rpc import gone_as
from sandboxd.gateway.adapters.e2b.signatures import Issued, signed
from sandboxd.gateway.adapters.e2b.snapshots import Snapshots
from sandboxd.gateway.adapters.e2b.templates import UPLOADS, Templates
from sandboxd.gateway.adapters.e2b.volumes import Volumes
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.waiting import ClientGone

_CONTROL = ("/sandboxes", "/v2/", "/v3/", "/templates", "/snapshots", "/volumes", UPLOADS)
"""Where only the control plane has something: older clients name the sandbox to it as well."""


class Front:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        bodies = Bodies(gateway)
        self._issued = Issued()
        images = Images(gateway)
        self._control = Router(
            [
                Route("/health", _alive, methods=["GET"]),
                *Snapshots(gateway, bodies, images).routes(),
                *Control(gateway, bodies, images, self._issued).routes(),
                *Listing(gateway).routes(),
                *Templates(gateway, bodies, images).routes(),
                *Volumes(gateway, bodies).routes(),
            ],
            redirect_slashes=False,
        )
        self._servers: dict[int, ASGIApp] = {
            identity.ENVD: Envd(gateway, bodies),
            identity.INTERPRETER: Interpreter(gateway, bodies),
        }
        self.routes = self._control.routes
        """What is mounted tells its routes."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        named = identity.named(headers)
        # What is mounted sees the path without the prefix.
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        control = path.startswith(_CONTROL) or (named is None and identity.token(headers) is None)
        query = QueryParams(scope["query_string"]) if path == "/files" else {}
        if control and "signature" not in query:
            await self._controlled(scope, receive, send, headers, path)
            return
        scope = {**scope, "e2b.path": path, "e2b.target": None}
        answer = _Answer(send)
        try:
            request = signed(scope["method"], query)
            if request is not None:
                target = self._issued.target(request, identity.meant(named[0]) if named else None)
            else:
                target = await identity.target(self._gateway, headers, named)
            scope["e2b.target"] = target
            server = self._servers.get(target.port)
            if server is None:
                raise SandboxGone(
                    f"The sandbox is running but port {target.port}: port is not open"
                )
            await server(scope, receive, answer.send)
        except ClientGone:
            raise
        except Exception as error:
            if answer.began:
                raise
            await _of_sandbox(error, scope)(scope, receive, send)

    async def _controlled(
        self, scope: Scope, receive: Receive, send: Send, headers: Headers, path: str
    ) -> None:
        answer = _Answer(send)
        try:
            if not path.startswith(UPLOADS):
                scope["tenant"] = identity.tenant(self._gateway, headers)
            await self._control(scope, receive, answer.send)
        except ClientGone:
            raise
        except HTTPException as error:
            words = f"{scope['method']} {path} is nothing that this service offers"
            await errors.plain(error.status_code, words)(scope, receive, send)
        except Exception as error:
            if answer.began:
                raise
            await errors.control(error)(scope, receive, send)


class _Answer:
    """Knows whether something of an answer is out: then it can be no other."""

    def __init__(self, send: Send) -> None:
        self._send, self.began = send, False

    async def send(self, message: Message) -> None:
        self.began = True
        await self._send(message)


def _of_sandbox(error: Exception, scope: Scope) -> Response:
    if isinstance(error, Unauthorized | NotOffered):
        return errors.of_sandbox(error)
    return errors.of_sandbox(gone_as(error, scope["e2b.target"]) or error)


async def _alive(request: Request) -> Response:
    return nothing()
