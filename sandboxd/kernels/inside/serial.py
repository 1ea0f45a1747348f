"""Contexts that run one piece of code after another: requests from the wire, and what becomes of them."""

import os
import queue
import signal
import threading


class Serial:
    """`serve` goes on to its end. What a language is and how it is told, its heirs know."""

    def __init__(self, wire):
        self.wire = wire
        self._requests = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._queued = []
        self._interrupted = False
        self._executions = 0
        signal.signal(signal.SIGINT, lambda *_: None)

    # What a language has to know

    def execute(self, code, env, hear):
        """Run it to its end; `hear` takes events of it, results and exceptions."""
        raise NotImplementedError

    def move(self, directory):
        """Go there. False: it cannot be."""
        raise NotImplementedError

    def export(self, env):
        """Put these into its environment."""
        raise NotImplementedError

    def interrupt(self):
        """End what runs. Called by the thread that reads."""
        os.killpg(os.getpgrp(), signal.SIGINT)

    def serve(self):
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            request = self._requests.get()
            if request is None:
                os._exit(0)
            getattr(self, f"_{request['op']}")(request)

    def _read(self):
        for request in self.wire.requests():
            if request["op"] == "interrupt":
                self._interrupt(request["run"])
            elif request["op"] == "ask":
                with self._lock:
                    pending = {self.wire.run, *(r["run"] for r in self._queued)}
                if request["run"] not in pending:
                    self.wire.send("end", of=request["run"], status="lost")
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
            if self.wire.run is None or run not in (None, self.wire.run):
                return
            self._interrupted = True
        self.interrupt()

    def _configure(self, request):
        if self.move(request["cwd"]):
            self.wire.send("configured")
        else:
            detail = f"{request['cwd']}: cannot be entered"
            self.wire.send("refused", reason="bad_cwd", detail=detail)

    def _environment(self, request):
        self.export(request["env"])

    def _run(self, request):
        wire = self.wire
        wire.settle()
        with self._lock:
            self._queued.remove(request)
            wire.run, self._interrupted = request["run"], request.get("interrupted", False)
        self._executions += 1
        wire.send("started", execution_count=self._executions)
        said = []

        def hear(document):
            said.append(document["type"])
            wire.send(**document)

        if not self._interrupted:
            self.execute(request["code"], request["env"], hear)
        if self._interrupted and "exception" not in said:
            wire.send("exception", name="Interrupted", value="", traceback="")
        failed = "exception" in said
        status = "interrupted" if self._interrupted else "error" if failed else "ok"
        wire.send("end", of=wire.run, status=status)
        with self._lock:
            wire.run = None
