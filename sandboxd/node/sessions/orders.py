"""What a process of an open sandbox finds, as an order for its runner."""

from collections.abc import Mapping

from sandboxd.drivers.exec.base import Spec
from sandboxd.drivers.exec.superuser import BIN
from sandboxd.model.session import ProcessRequest
from sandboxd.native import ExecOrder
from sandboxd.node.job_environment import base_env

_STACK = 64 << 20
_ROOT = {"HOME": "/root", "USER": "root", "LOGNAME": "root"}
"""Instead of the sandbox's own, which are its user's."""
_NO_LIMIT = (1 << 64) - 1


def session_order(
    spec: Spec, env: Mapping[str, str], open_files: int, request: ProcessRequest
) -> ExecOrder:
    """`env` is the sandbox's, which the request may override."""
    own = {**base_env(spec.image), **env}
    if spec.root and BIN not in own["PATH"].split(":"):
        own["PATH"] = f"{BIN}:{own['PATH']}"
    if request.user == "root":
        own |= _ROOT
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
