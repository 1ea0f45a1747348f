"""What a process of an open sandbox finds, as an order for its runner."""

from collections.abc import Mapping

from sandboxd.drivers.graph.image import Image
from sandboxd.model.session import ProcessRequest
from sandboxd.native import ExecOrder
from sandboxd.node.job_environment import base_env

_STACK = 64 << 20
_NO_LIMIT = (1 << 64) - 1


def session_order(
    image: Image, env: Mapping[str, str], open_files: int, request: ProcessRequest
) -> ExecOrder:
    """`env` is the sandbox's, which the request may override."""
    own = {**base_env(image), **env}
    if request.pty is not None:
        own.setdefault("TERM", "xterm-256color")
    return ExecOrder(
        argv=request.command,
        env={**own, **request.env},
        cwd=request.cwd,
        open_files=open_files,
        stack=_STACK,
        file_size=_NO_LIMIT,
        terminal=None if request.pty is None else (request.pty.rows, request.pty.cols),
    )
