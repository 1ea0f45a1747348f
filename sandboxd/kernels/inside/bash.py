"""The Bash context: one shell that lives, fed a piece of code at a time by this bridge.

The shell is interactive, though no terminal is there: an interrupt then ends the command line that it
is at, and not the shell. Where a piece of code ends, the shell says so on a descriptor of its own.
"""

import os
import queue
import shlex
import signal
import subprocess
import threading

from sandboxd_kernel.wire import Wire

_SAID = 99
"""Descriptor on which the shell says that a piece of code has ended."""
_ERRORS = 98
"""Its stderr, kept away while an interactive shell complains that it has no terminal."""
_BEGIN = f"""PS1= PS2= PROMPT_COMMAND=
set +o history +H
unset HISTFILE
exec 2>&{_ERRORS} {_ERRORS}>&-
"""


def main():
    wire = Wire()
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        Bridge(wire).serve()
    except FileNotFoundError:
        wire.send("refused", reason="no_interpreter", detail="there is no bash in this image")


class Bridge:
    def __init__(self, wire):
        self._wire = wire
        self._requests = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._queued = []
        self._interrupted = False
        self._count = self._executions = 0
        self._start()

    def _start(self):
        ours, theirs = os.pipe()
        self._said = os.fdopen(ours, "rb")
        os.dup2(theirs, _SAID)
        os.dup2(2, _ERRORS)
        os.close(theirs)
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "--noediting", "-i"], stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL, pass_fds=(_SAID, _ERRORS),
        )  # fmt: skip
        os.close(_SAID)
        os.close(_ERRORS)
        self._say(_BEGIN)

    def _say(self, text):
        self._shell.stdin.write(text.encode())
        self._shell.stdin.flush()

    def serve(self):
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            request = self._requests.get()
            if request is None:
                os._exit(0)
            getattr(self, f"_{request['op']}")(request)

    def _read(self):
        for request in self._wire.requests():
            if request["op"] == "interrupt":
                self._interrupt(request["run"])
            elif request["op"] == "ask":
                with self._lock:
                    pending = {self._wire.run, *(r["run"] for r in self._queued)}
                if request["run"] not in pending:
                    self._wire.send("end", of=request["run"], status="lost")
            else:
                if request["op"] == "run":
                    with self._lock:
                        self._queued.append(request)
                self._requests.put(request)
        self._requests.put(None)

    def _interrupt(self, run):
        with self._lock:
            for request in self._queued:
                if request["run"] == run:
                    request["interrupted"] = True
                    return
            if self._wire.run is None or run not in (None, self._wire.run):
                return
            self._interrupted = True
        os.killpg(os.getpgrp(), signal.SIGINT)
        # The shell has dropped the line that would have told of the end.
        self._say(f"printf '%s %s\\0' 130 {self._count} >&{_SAID}\n")

    def _configure(self, request):
        ended = self._run_line(f"cd -- {shlex.quote(request['cwd'])}")
        if ended == 0:
            self._wire.send("configured")
        else:
            self._wire.send(
                "refused", reason="bad_cwd", detail=f"{request['cwd']}: cannot be entered"
            )

    def _environment(self, request):
        self._run_line("export " + _assignments(request["env"]))

    def _run(self, request):
        wire = self._wire
        wire.settle()
        with self._lock:
            self._queued.remove(request)
            wire.run, self._interrupted = request["run"], request.get("interrupted", False)
        self._executions += 1
        wire.send("started", execution_count=self._executions)
        code = f"eval {shlex.quote(request['code'])}"
        if request["env"]:  # of this piece alone, in a function's own scope
            names = _assignments(request["env"])
            code = f"_sandboxd_run() {{ local -x {names}; {code}; }}; _sandboxd_run"
        ended = 130 if self._interrupted else self._run_line(code)
        if ended is None:
            wire.settle()
            os._exit(self._shell.wait() & 255)
        if ended:
            wire.send("exception", name="ExitStatus", value=str(ended), traceback="")
        status = "interrupted" if self._interrupted else "error" if ended else "ok"
        wire.send("end", of=wire.run, status=status)
        with self._lock:
            wire.run = None

    def _run_line(self, line):
        """Exit status of a line; None if the shell is no more."""
        self._count += 1
        try:
            self._say(
                f"{line} </dev/null {_SAID}>&-\nprintf '%s %s\\0' $? {self._count} >&{_SAID}\n"
            )
        except BrokenPipeError:
            return None
        while True:
            said = self._next()
            if not said:
                return None
            status, count = said.split()
            if int(count) == self._count:
                return int(status)

    def _next(self):
        said = b""
        while not said.endswith(b"\0"):
            byte = self._said.read(1)
            if not byte:
                return None
            said += byte
        return said[:-1]


def _assignments(env):
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in env.items())
