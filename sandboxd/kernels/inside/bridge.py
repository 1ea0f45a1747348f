"""Contexts of interpreters that are programs of their own: fed a piece of code at a time by this bridge.

The interpreter says on a descriptor of its own what became of a piece: documents as those of `wire`,
then `{"over": NUMBER}`. All else that it prints is output.
"""

import json
import os
import queue
import signal
import subprocess
import threading

SAID = 99
"""Descriptor on which the interpreter says what became of a piece of code."""
ERRORS = 98
"""Its stderr, for one that is started without."""


class Bridge:
    """Begins with the interpreter's start; `serve` goes on to its end."""

    command = ()
    quiet = False
    """It complains at its start: its stderr waits on `ERRORS`, until it is told to take it."""
    begin = ""
    """What it is told first."""

    def __init__(self, wire):
        self._wire = wire
        self._requests = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._queued = []
        self._interrupted = False
        self._number = self._executions = 0
        signal.signal(signal.SIGINT, lambda *_: None)
        ours, theirs = os.pipe()
        self._said = os.fdopen(ours, "rb")
        os.dup2(theirs, SAID)
        os.dup2(2, ERRORS)
        os.close(theirs)
        self._program = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, pass_fds=(SAID, ERRORS),
            stderr=subprocess.DEVNULL if self.quiet else None,
        )  # fmt: skip
        os.close(SAID)
        os.close(ERRORS)
        self._say(self.begin)

    # What a language has to know

    def piece(self, code, env, number):
        """What the interpreter is told so that it runs the code and says `{"over": number}`."""
        raise NotImplementedError

    def moved(self, directory, number):
        """The same for a new working directory; it may say `{"refused": reason}` before."""
        raise NotImplementedError

    def exported(self, env, number):
        """The same for variables of its environment."""
        raise NotImplementedError

    def after_interrupt(self, number):
        """What it is told when it was interrupted, if it would say nothing of its own accord."""
        return ""

    def heard(self, document):
        """An event as it goes on to the gateway."""
        return document

    def _say(self, text):
        self._program.stdin.write(text.encode())
        self._program.stdin.flush()

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
        self._say(self.after_interrupt(self._number))

    def _configure(self, request):
        refused = []
        self._do(self.moved, request["cwd"], hear=refused.append)
        if refused:
            detail = f"{request['cwd']}: cannot be entered"
            self._wire.send("refused", reason="bad_cwd", detail=detail)
        else:
            self._wire.send("configured")

    def _environment(self, request):
        self._do(self.exported, request["env"])

    def _run(self, request):
        wire = self._wire
        wire.settle()
        with self._lock:
            self._queued.remove(request)
            wire.run, self._interrupted = request["run"], request.get("interrupted", False)
        self._executions += 1
        wire.send("started", execution_count=self._executions)
        said = []

        def hear(document):
            document = self.heard(document)
            said.append(document["type"])
            wire.send(**document)

        if not self._interrupted:
            self._do(self.piece, request["code"], request["env"], hear=hear)
        if self._interrupted and "exception" not in said:
            wire.send("exception", name="Interrupted", value="", traceback="")
        failed = "exception" in said
        status = "interrupted" if self._interrupted else "error" if failed else "ok"
        wire.send("end", of=wire.run, status=status)
        with self._lock:
            wire.run = None

    def _do(self, what, *arguments, hear=None):
        """Tell it, and hear what it says of that, to the end; with its own, this program ends."""
        self._number += 1
        try:
            self._say(what(*arguments, self._number))
        except BrokenPipeError:
            self._end()
        while True:
            line = self._said.readline()
            if not line:
                self._end()
            document = json.loads(line)
            if document.get("over") == self._number:
                return
            if "over" not in document and hear is not None:
                hear(document)

    def _end(self):
        self._wire.settle()
        os._exit(self._program.wait() & 255)
