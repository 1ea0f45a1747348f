"""Typed face of the native core: builds, addresses and ends sandboxes, compiles seccomp policies.

It owns no policy and keeps no state. Functions that may block release the GIL and say so.
"""

from sandboxd.native.core import (
    Armed,
    EndOfStream,
    Exited,
    Failed,
    Native,
    Opened,
    Quiet,
    Spawned,
    Terminal,
    build,
    close_all,
    idmap,
    netns_traces,
    new_netns,
    reap,
    receive,
    resize,
    seal_init,
    send_exec,
    send_open,
    send_quiesce,
    send_signal,
    send_spawn,
)
from sandboxd.native.plan import Bind, ExecOrder, Plan
from sandboxd.native.seccomp import compile_seccomp, eval_seccomp

__all__ = [
    "Armed",
    "Bind",
    "EndOfStream",
    "ExecOrder",
    "Exited",
    "Failed",
    "Native",
    "Opened",
    "Plan",
    "Quiet",
    "Spawned",
    "Terminal",
    "build",
    "close_all",
    "compile_seccomp",
    "eval_seccomp",
    "idmap",
    "netns_traces",
    "new_netns",
    "reap",
    "receive",
    "resize",
    "seal_init",
    "send_exec",
    "send_open",
    "send_quiesce",
    "send_signal",
    "send_spawn",
]
