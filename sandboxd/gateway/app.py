"""The ASGI application: routes, and what surrounds them."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from sandboxd.gateway import adapters
from sandboxd.gateway.api.events import Events
from sandboxd.gateway.api.health import Probes
from sandboxd.gateway.api.images import Images
from sandboxd.gateway.api.judge_problems import Problems
from sandboxd.gateway.api.languages import Languages
from sandboxd.gateway.api.runs import Runs
from sandboxd.gateway.api.sandbox_routes import sandbox_routes
from sandboxd.gateway.api.stream import Streams
from sandboxd.gateway.api.submission_stream import SubmissionStream
from sandboxd.gateway.api.submissions import Submissions, owned_submission
from sandboxd.gateway.api.templates import Templates
from sandboxd.gateway.api.volumes import Volumes
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.forwarding import names
from sandboxd.gateway.forwarding.front import Front
from sandboxd.gateway.forwarding.serving import Serving
from sandboxd.gateway.middleware.authentication import Authentication
from sandboxd.gateway.middleware.edge import Edge
from sandboxd.gateway.openapi import document


def build_app(gateway: Gateway, *more: Route) -> Starlette:
    """The application of `gateway`, whose `running()` the caller has to enter; with `more` routes."""
    serving = Serving(gateway)
    routes = [*_routes(gateway, serving), *more]
    templates: dict[object, str] = {
        route.endpoint: route.path for route in routes if isinstance(route, Route)
    }
    app = Starlette(
        # The adapters first: one comparison for us, the whole list of our own for them otherwise.
        routes=[adapters.mount(gateway), *routes],
        middleware=[
            *_front(gateway, serving),
            Middleware(Edge, metrics=gateway.metrics, routes=templates),
            Middleware(
                Authentication,
                keys=gateway.keys,
                also_open=adapters.OPEN,
                own_keys=adapters.OWN_KEYS,
            ),
        ],
        exception_handlers={HTTPException: _outward},
    )
    # The redirect would go wherever the request's Host header says.
    app.router.redirect_slashes = False
    return app


def _front(gateway: Gateway, serving: Serving) -> list[Middleware]:
    site = names.site(gateway.settings.gateway.ports_url)
    if site is None:
        return []
    return [Middleware(Front, gateway=gateway, serving=serving, site=site)]


def _routes(gateway: Gateway, serving: Serving) -> list[Route | WebSocketRoute]:
    runs, probes = Runs(gateway), Probes(gateway)
    languages, streams = Languages(gateway), Streams(gateway)
    return [
        Route("/v1/runs", runs.create, methods=["POST"]),
        Route("/v1/runs/{id}", runs.one, methods=["GET", "DELETE"]),
        Route("/v1/runs/{id}/events", Events(gateway), methods=["GET"]),
        WebSocketRoute("/v1/runs/{id}/stream", streams.attach),
        *_judge_routes(gateway),
        *sandbox_routes(gateway, serving),
        Route("/v1/languages", languages.list, methods=["GET"]),
        *_stored_routes(gateway),
        Route("/healthz", probes.alive, methods=["GET"]),
        Route("/readyz", probes.ready, methods=["GET"]),
        Route("/metrics", probes.metrics, methods=["GET"]),
        Route("/openapi.json", _document, methods=["GET"]),
    ]


def _stored_routes(gateway: Gateway) -> list[Route]:
    images, volumes, templates = Images(gateway), Volumes(gateway), Templates(gateway)
    return [
        Route("/v1/images", images.list, methods=["GET"]),
        Route("/v1/images/build", images.build, methods=["POST"]),
        Route("/v1/images/import", images.import_, methods=["POST"]),
        Route("/v1/images/export", images.export, methods=["GET"]),
        Route("/v1/images/pull", images.pull, methods=["POST"]),
        Route("/v1/images/push", images.push, methods=["POST"]),
        Route("/v1/images/tag", images.tag, methods=["POST"]),
        Route("/v1/images/{name:path}", images.one, methods=["GET", "DELETE"]),
        Route("/v1/volumes", volumes.list, methods=["GET"]),
        Route("/v1/volumes", volumes.create, methods=["POST"]),
        Route("/v1/volumes/{name}", volumes.delete, methods=["DELETE"]),
        Route("/v1/templates", templates.list, methods=["GET"]),
        Route("/v1/templates/{name}", templates.one, methods=["GET", "PUT", "DELETE"]),
    ]


def _judge_routes(gateway: Gateway) -> list[Route | WebSocketRoute]:
    submissions, streams = Submissions(gateway), SubmissionStream(gateway)
    events, problems = Events(gateway, owned=owned_submission), Problems(gateway)
    return [
        Route("/v1/submissions", submissions.create, methods=["POST"]),
        Route("/v1/submissions/{id}", submissions.one, methods=["GET", "DELETE"]),
        Route("/v1/submissions/{id}/events", events, methods=["GET"]),
        WebSocketRoute("/v1/submissions/{id}/stream", streams.follow),
        Route("/v1/problems", problems.list, methods=["GET"]),
        Route("/v1/problems", problems.create, methods=["POST"]),
        Route("/v1/problems/{id}", problems.read, methods=["GET"]),
        Route("/v1/problems/{id}", problems.delete, methods=["DELETE"]),
        Route("/v1/files", problems.keep_file, methods=["POST"]),
    ]


async def _document(request: Request) -> Response:
    return Response(document(), media_type="application/json")


async def _outward(request: Request, error: Exception) -> Response:
    """Routing errors are translated where all errors are, in Edge."""
    raise error
