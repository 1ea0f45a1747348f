"""The routes of `/v1/sandboxes`, `/v1/signed` and `/v1/ports`."""

from starlette.routing import Route, WebSocketRoute

from sandboxd.gateway.api.sandbox_archive import Archives
from sandboxd.gateway.api.sandbox_content import Contents
from sandboxd.gateway.api.sandbox_contexts import Contexts
from sandboxd.gateway.api.sandbox_events import SandboxEvents
from sandboxd.gateway.api.sandbox_files import Files
from sandboxd.gateway.api.sandbox_network import NetworkRecordings
from sandboxd.gateway.api.sandbox_pages import ByKey, ByToken
from sandboxd.gateway.api.sandbox_ports import Ports
from sandboxd.gateway.api.sandbox_processes import Processes
from sandboxd.gateway.api.sandbox_requests import Bodies
from sandboxd.gateway.api.sandbox_signed import PREFIX, Signed
from sandboxd.gateway.api.sandbox_sockets import Sockets
from sandboxd.gateway.api.sandboxes import Sandboxes
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.forwarding.serving import Serving
from sandboxd.gateway.forwarding.tokens import SHARED

_ONE = "/v1/sandboxes/{id}"
_FILES = f"{_ONE}/files"
_PORT = f"{_ONE}/ports/{{port:int}}"
_PROCESS = f"{_ONE}/processes/{{process}}"
_CONTEXT = f"{_ONE}/contexts/{{context}}"


def sandbox_routes(gateway: Gateway, serving: Serving) -> list[Route | WebSocketRoute]:
    bodies = Bodies(gateway)
    life, events = Sandboxes(gateway, bodies), SandboxEvents(gateway)
    network = NetworkRecordings(gateway)
    return [
        Route("/v1/sandboxes", life.create, methods=["POST"]),
        Route("/v1/sandboxes", life.list, methods=["GET"]),
        Route("/v1/sandboxes/events", events.all, methods=["GET"]),
        Route(_ONE, life.one, methods=["GET", "PATCH", "DELETE"]),
        Route(f"{_ONE}/extend", life.extend, methods=["POST"]),
        Route(f"{_ONE}/pause", life.pause, methods=["POST"]),
        Route(f"{_ONE}/resume", life.resume, methods=["POST"]),
        Route(f"{_ONE}/snapshot", life.snapshot, methods=["POST"]),
        Route(f"{_ONE}/fork", life.fork, methods=["POST"]),
        Route(f"{_ONE}/metrics", life.metrics, methods=["GET"]),
        Route(f"{_ONE}/metrics/history", life.history, methods=["GET"]),
        Route(f"{_ONE}/metrics/stream", events.metrics, methods=["GET"]),
        Route(f"{_ONE}/events", events.of_one, methods=["GET"]),
        Route(f"{_ONE}/network", network.read, methods=["GET"]),
        *_process_routes(gateway, bodies),
        *_port_routes(gateway, bodies, serving),
        *_file_routes(gateway, bodies),
        *_context_routes(gateway, bodies),
    ]


def _context_routes(gateway: Gateway, bodies: Bodies) -> list[Route | WebSocketRoute]:
    contexts = Contexts(gateway, bodies)
    return [
        Route(f"{_ONE}/contexts", contexts.all, methods=["GET", "POST"]),
        Route(_CONTEXT, contexts.one, methods=["GET", "DELETE"]),
        Route(f"{_CONTEXT}/run", contexts.run, methods=["POST"]),
        Route(f"{_CONTEXT}/restart", contexts.restart, methods=["POST"]),
        Route(f"{_CONTEXT}/interrupt", contexts.interrupt, methods=["POST"]),
    ]


def _process_routes(gateway: Gateway, bodies: Bodies) -> list[Route | WebSocketRoute]:
    processes, sockets = Processes(gateway, bodies), Sockets(gateway, bodies)
    return [
        Route(f"{_ONE}/exec", processes.execute, methods=["POST"]),
        WebSocketRoute(f"{_ONE}/exec", sockets.execute),
        Route(f"{_ONE}/processes", processes.all, methods=["GET", "POST"]),
        Route(_PROCESS, processes.one, methods=["GET"]),
        Route(f"{_PROCESS}/output", processes.output, methods=["GET"]),
        Route(f"{_PROCESS}/signal", processes.signal, methods=["POST"]),
        Route(f"{_PROCESS}/stdin", processes.stdin, methods=["POST"]),
        Route(f"{_PROCESS}/resize", processes.resize, methods=["POST"]),
        WebSocketRoute(f"{_PROCESS}/stream", sockets.attach),
    ]


def _port_routes(
    gateway: Gateway, bodies: Bodies, serving: Serving
) -> list[Route | WebSocketRoute]:
    ports, by_key, by_token = Ports(gateway, bodies), ByKey(serving), ByToken(gateway, serving)
    return [
        Route(_PORT, ports.one, methods=["GET", "POST"]),
        WebSocketRoute(_PORT, ports.connect),
        Route(f"{_PORT}/{{rest:path}}", by_key),
        WebSocketRoute(f"{_PORT}/{{rest:path}}", by_key),
        Route(f"{SHARED}{{token}}/{{rest:path}}", by_token),
        WebSocketRoute(f"{SHARED}{{token}}/{{rest:path}}", by_token),
    ]


def _file_routes(gateway: Gateway, bodies: Bodies) -> list[Route | WebSocketRoute]:
    files, contents, archives = Files(gateway, bodies), Contents(gateway), Archives(gateway)
    signed = Signed(gateway, bodies, contents)
    return [
        Route(_FILES, files.all, methods=["GET", "DELETE"]),
        Route(f"{_FILES}/stat", files.stat, methods=["GET"]),
        Route(f"{_FILES}/content", contents.content, methods=["GET", "PUT"]),
        Route(f"{_FILES}/archive", archives.archive, methods=["GET", "PUT"]),
        Route(f"{_FILES}/batch", files.batch, methods=["POST"]),
        Route(f"{_FILES}/directory", files.make_directory, methods=["POST"]),
        Route(f"{_FILES}/move", files.move, methods=["POST"]),
        Route(f"{_FILES}/mode", files.change_mode, methods=["POST"]),
        Route(f"{_FILES}/sign", signed.sign, methods=["POST"]),
        Route(f"{_FILES}/watch", files.watch, methods=["GET"]),
        WebSocketRoute(f"{_FILES}/watch", files.watch_socket),
        Route(f"{PREFIX}{{token}}", signed.use, methods=["GET", "PUT"]),
    ]
