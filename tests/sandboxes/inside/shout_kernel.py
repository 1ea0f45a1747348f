"""A Jupyter kernel for tests: it shouts what it is told, and can be interrupted by a message alone."""

import fcntl
import itertools
import json
import signal
import sys
from pathlib import Path

import zmq
from jupyter_client.session import Session

signal.signal(signal.SIGINT, signal.SIG_IGN)
there = json.loads(Path(sys.argv[1]).read_text())
session = Session(key=there["key"].encode(), signature_scheme=there["signature_scheme"])
context = zmq.Context()


def bound(kind: int, port: str) -> zmq.Socket:
    socket = context.socket(kind)
    socket.bind(f"{there['transport']}://{there['ip']}-{there[port]}")
    return socket


shell, control = bound(zmq.ROUTER, "shell_port"), bound(zmq.ROUTER, "control_port")
broadcasts = bound(zmq.PUB, "iopub_port")
held = []
count = itertools.count(1)


def serve() -> None:
    who, request = session.recv(shell, mode=0)
    parent, code = request["header"], request["content"].get("code")

    def tell(kind: str, **content: object) -> None:
        session.send(broadcasts, kind, content, parent=parent)

    def answer(kind: str, **content: object) -> None:
        session.send(shell, kind, content, parent=parent, ident=who)

    tell("status", execution_state="busy")
    if code is None:
        answer("kernel_info_reply", status="ok", language_info={"name": "shout"})
    elif code == "end":
        sys.exit(5)
    elif code == "wait":
        tell("stream", name="stdout", text="waiting\n")
        session.recv(control, mode=0)
        answer("execute_reply", status="error", ename="Stopped", evalue="by a message")
    else:
        if code == "lock":
            held.append(open("/work/lock", "w"))  # noqa: SIM115
            fcntl.flock(held[0], fcntl.LOCK_EX)
        tell("stream", name="stderr", text=f"{next(count)}\n")
        for _ in range(2500 if code == "flood" else 0):
            tell("stream", name="stdout", text="x" * 1000)
        tell("display_data", data={"text/html": "<b>!</b>", "x/y": 1}, metadata={})
        tell("execute_result", data={"text/plain": code.upper()}, metadata={}, execution_count=1)
        answer("execute_reply", status="ok", payload=[])
    tell("status", execution_state="idle")


while True:
    serve()
