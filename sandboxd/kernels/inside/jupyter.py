"""Contexts of Jupyter kernels: one of the image's kernelspecs, with the messages of Jupyter.

The kernel is a child in the same process group, its sockets are files of a directory of its own, so
that it takes no port. `jupyter_client` is the image's.
"""

import ctypes
import os
import re
import signal
import subprocess
import tempfile
import threading

from sandboxd_kernel.formats import result
from sandboxd_kernel.messages import READY, Line
from sandboxd_kernel.rwords import RESTORE, keep, listed, quoted
from sandboxd_kernel.serial import Serial
from sandboxd_kernel.wire import Wire, shortened

_SILENT = 2.0
"""Seconds without a broadcast after which a run that is over is taken for ended: the rest was dropped,
as a kernel drops what is not read in time."""
_PR_SET_PDEATHSIG = 1
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Missing(Exception):
    """The image has no such kernelspec, or nothing to speak with it."""


def main(name):
    wire = Wire()
    try:
        spec = kernelspec(name)
    except Missing as error:
        wire.send("refused", reason="no_interpreter", detail=str(error))
    else:
        serve(wire, spec)


def serve(wire, spec):
    try:
        kernel = Jupyter(wire, spec)
    except Missing as error:
        wire.send("refused", reason="no_interpreter", detail=str(error))
    else:
        kernel.serve()


def kernelspec(name):
    """Raises Missing."""
    os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")  # else newer ones warn on stderr
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError as error:
        raise Missing(f"no kernel {name}: python3 of this image has no jupyter_client") from error
    manager = KernelSpecManager()
    try:
        return manager.get_kernel_spec(name)
    except NoSuchKernel as error:
        there = ", ".join(sorted(manager.find_kernel_specs())[:32]) or "none"
        raise Missing(f"there is no kernelspec {name} in this image; it has: {there}") from error


class Jupyter(Serial):
    """Raises Missing for a kernel that does not come up."""

    def __init__(self, wire, spec):
        super().__init__(wire)
        self._spec = spec
        self._began = os.getcwd()
        self._line = Line(tempfile.mkdtemp(prefix="context-"))
        argv = [_filled(word, self._line.connection_file, spec) for word in spec.argv]
        try:
            self._program = subprocess.Popen(
                argv, env={**os.environ, **spec.env}, preexec_fn=_end_with_us
            )
        except OSError as error:
            raise Missing(f"{argv[0]}: {error.strerror}") from error
        self._ready = False
        threading.Thread(target=self._wait, daemon=True).start()
        if not self._line.begin():
            raise Missing(f"the kernel {spec.display_name} was not ready in {READY:g} seconds")
        self._ready = True

    def _wait(self):
        """With the kernel, this program ends."""
        code = self._program.wait()
        self.wire.settle()
        if not self._ready:
            detail = f"the kernel {self._spec.display_name} ended as it began"
            self.wire.send("refused", reason="no_interpreter", detail=detail)
        os._exit(code & 255)

    # What Serial asks for

    def execute(self, code, env, hear):
        if env and self._spec.language != "R":
            text = "the environment of this kernel is what its context began with"
            hear({"type": "exception", "name": "NotOffered", "value": text, "traceback": text})
            return
        if env:
            self._quietly(keep(env))
        self._do(code, hear)
        if env:
            self._quietly(RESTORE)

    def move(self, directory):
        if self._spec.language == "R":
            return not self._quietly(f"setwd({quoted(directory)})")
        return os.path.isdir(directory) and os.path.samefile(directory, self._began)

    def export(self, env):
        if self._spec.language == "R":
            self._quietly(f"do.call(Sys.setenv, {listed(env)})")

    def interrupt(self):
        if self._spec.interrupt_mode == "message":
            self._line.interrupt()
        else:
            super().interrupt()

    def _quietly(self, code):
        """What has no part in the history. True: it failed."""
        failures = []
        self._do(code, failures.append, silent=True)
        return any(each["type"] == "exception" for each in failures)

    def _do(self, code, hear, silent=False):
        """Until the kernel is idle again, and has answered."""
        line = self._line
        asked = line.ask("execute_request", {
            "code": code, "silent": silent, "store_history": not silent, "user_expressions": {},
            "allow_stdin": False, "stop_on_error": False,
        })  # fmt: skip
        idle, answer, raised, held = False, None, False, None
        while not idle or answer is None:
            heard = line.hear(None if answer is None else _SILENT)
            if heard is None:
                self.wire.send("missed")
                break
            broadcast, message = heard
            mine = message["parent_header"].get("msg_id") == asked
            if broadcast:
                idle |= mine and message["content"].get("execution_state") == "idle"
                if held is not None:
                    hear(result(held, main=idle))
                    held = None
                if mine and self._may_be_last(message):
                    held = message["content"]["data"]
                    continue
                self._broadcast(message, hear if mine else _nobody)
                raised |= mine and message["msg_type"] == "error"
            elif mine:
                answer = message["content"]
        if held is not None:
            hear(result(held, main=False))
        self._answered(answer or {}, raised, hear)

    def _answered(self, answer, raised, hear):
        """What of the answer was in no broadcast."""
        for page in answer.get("payload") or ():
            if page.get("source") == "page":
                hear(result(page.get("data") or {}, False))
            if page.get("source") == "ask_exit":
                text = "a context is ended by removing it"
                hear({"type": "exception", "name": "Exit", "value": text, "traceback": text})
        if answer.get("status") == "error" and not raised:
            hear(_exception(answer))

    def _may_be_last(self, message):
        """IRkernel has one kind of message for values; the last is the last expression's."""
        return (
            self._spec.language == "R"
            and message["msg_type"] == "display_data"
            and not any(kind.startswith("image/") for kind in message["content"]["data"])
        )

    def _broadcast(self, message, hear):
        content = message["content"]
        match message["msg_type"]:
            case "stream":
                self.wire.text(
                    "stderr" if content["name"] == "stderr" else "stdout", content["text"]
                )
            case "display_data" | "update_display_data":
                hear(result(content["data"], False))
            case "execute_result":
                hear(result(content["data"], True))
            case "error":
                hear(_exception(content))


def _nobody(document):
    """What belongs to a run that is over."""


def _exception(content):
    trace = "\n".join(content.get("traceback") or ())
    return {
        "type": "exception",
        "name": str(content.get("ename", "")),
        "value": shortened(_COLOURS.sub("", str(content.get("evalue", "")))),
        "traceback": shortened(_COLOURS.sub("", trace)),
    }


def _end_with_us():
    """A kernel does not see that nobody speaks to it any more."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _filled(word, connection, spec):
    return word.replace("{connection_file}", connection).replace(
        "{resource_dir}", spec.resource_dir
    )
