"""The Python context: IPython's shell, without Jupyter, behind the line of `wire`.

The main thread runs the program and nothing else does; a reader thread takes requests in, so that an
interrupt is heard at any moment. Between two runs the event loop runs, for tasks that were started.
"""

import asyncio
import builtins
import importlib
import os
import signal
import site
import socket
import subprocess
import sys
import threading
import traceback
from collections import deque

from sandboxd_kernel.formats import result
from sandboxd_kernel.wire import Wire, refused, shortened, use_streams

FIGURES = "module://sandboxd_kernel.figures"


def main():
    wire = Wire()
    os.environ.setdefault("MPLBACKEND", FIGURES)
    os.environ.setdefault("IPYTHONDIR", os.path.join(os.environ.get("TMPDIR", "/tmp"), ".ipython"))
    try:
        from sandboxd_kernel.shell import make_shell

        kernel = Kernel(wire, make_shell)
    except ImportError as error:
        wire.send("refused", reason="no_ipython", detail=f"python3 of this image: {error}")
        return
    except BaseException:
        wire.send("refused", reason="no_interpreter", detail=traceback.format_exc())
        return
    sys.path.insert(0, os.getcwd())  # not before: its files may be called as those that we import
    use_streams(wire)
    kernel.serve()


class Kernel:
    def __init__(self, wire, make_shell):
        self._wire = wire
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._requests = deque()
        self._waiting = None
        self._lock = threading.Lock()
        self._active = self._interrupted = False
        self._task = None
        self._wanted = None
        builtins.input = _no_input
        self.shell = make_shell(self)
        signal.signal(signal.SIGINT, self._on_interrupt)

    def serve(self):
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            request = self._wait()
            if request is None:
                os._exit(0)
            getattr(self, f"_{request['op']}")(request)

    def _wait(self):
        """The next request; tasks of the program go on meanwhile."""
        while True:
            if self._loop.is_closed():
                self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
            try:
                return self._loop.run_until_complete(self._next())
            except RuntimeError:  # the program has stopped or closed the loop
                continue

    async def _next(self):
        while not self._requests:
            self._waiting = self._loop.create_future()
            if self._requests:
                break
            await self._waiting
        return self._requests.popleft()

    def _read(self):
        """The reader thread."""
        for request in self._wire.requests():
            if request["op"] == "interrupt":
                self._interrupt(request["run"])
            elif request["op"] == "ask":
                if request["run"] not in self._pending():
                    self._wire.send("end", of=request["run"], status="lost")
            else:
                self._put(request)
        self._put(None)

    def _put(self, request):
        with self._lock:
            self._requests.append(request)
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # the program has closed the loop; the main thread makes another
            return

    def _wake(self):
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _pending(self):
        with self._lock:
            return {self._wire.run, *(r["run"] for r in self._requests if r and r["op"] == "run")}

    def _interrupt(self, run):
        """One run, or with None the one that is under way."""
        with self._lock:
            for request in self._requests:
                if run is not None and request is not None and request.get("run") == run:
                    request["interrupted"] = True
                    return
            if not self._active or run not in (None, self._wire.run):
                return
            self._interrupted = True
        os.killpg(os.getpgrp(), signal.SIGINT)

    def _on_interrupt(self, number, frame):
        __tracebackhide__ = True
        if not self._active:
            return
        if self._task is not None and asyncio._get_running_loop() is not None:
            if asyncio.current_task(self._loop) is not self._task:
                self._loop.call_soon_threadsafe(self._task.cancel)
                return
        raise KeyboardInterrupt

    # What is asked for

    def _configure(self, request):
        try:
            os.chdir(request["cwd"])
        except OSError as error:
            self._wire.send(
                "refused", reason="bad_cwd", detail=f"{request['cwd']}: {error.strerror}"
            )
            return
        sys.path[0] = os.getcwd()
        self._wire.send("configured")

    def _environment(self, request):
        os.environ.update(request["env"])

    def _run(self, request):
        wire = self._wire
        wire.settle()
        with self._lock:
            wire.run, self._interrupted = request["run"], request.get("interrupted", False)
        self.failed = False
        wire.send("started", execution_count=self.shell.execution_count)
        outside = {name: os.environ.get(name) for name in request["env"]}
        os.environ.update(request["env"])
        try:
            self._active = True
            if self._interrupted:
                raise KeyboardInterrupt
            self._execute(request["code"])
        except KeyboardInterrupt:
            self.fail("KeyboardInterrupt", "", "KeyboardInterrupt")
        except BaseException as error:  # the shell itself, overwritten by the program
            self.fail(type(error).__name__, str(error), repr(error))
        finally:
            self._active = False
        if os.getpid() != wire.parent:
            os._exit(0)  # a fork that came back out of the program
        self._show_figures()
        for name, value in outside.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        status = "interrupted" if self._interrupted else "error" if self.failed else "ok"
        wire.send("end", of=wire.run, status=status)
        with self._lock:
            wire.run = None

    def _execute(self, code):
        shell = self.shell
        transformed, failure = code, None
        try:
            transformed = shell.transform_cell(code)
        except Exception:
            failure = sys.exc_info()
        awaits = failure is None and shell.should_run_async(code, transformed_cell=transformed)
        running = shell.run_cell_async(
            code, store_history=True, transformed_cell=transformed if failure is None else None,
            preprocessing_exc_tuple=failure,
        )  # fmt: skip
        if awaits:
            self._task = self._loop.create_task(running)
            try:
                self._loop.run_until_complete(self._task)
            except asyncio.CancelledError:
                raise KeyboardInterrupt from None
            finally:
                self._task = None
            return
        try:
            running.send(None)
        except StopIteration:
            return
        raise RuntimeError("a cell without await waited")

    def _show_figures(self):
        figures = sys.modules.get("sandboxd_kernel.figures")
        if figures is not None:
            try:
                figures.show()
            except BaseException as error:
                self.fail(type(error).__name__, str(error), f"a figure could not be drawn: {error}")

    # What the shell reports

    def show(self, formats, main):
        """A result: formats by MIME type."""
        self._wire.send(**result(formats, main))

    def fail(self, name, value, traceback):
        self.failed = True
        if self._interrupted and name == "CancelledError":
            name = "KeyboardInterrupt"
        self._wire.send(
            "exception", name=name, value=shortened(value), traceback=shortened(traceback)
        )

    def system(self, command):
        """`!command`: what it prints is heard through the descriptors. Its exit status."""
        __tracebackhide__ = True
        sys.stdout.flush()
        child = subprocess.Popen(["/bin/bash", "-c", command])
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                self._interrupted = True
                child.send_signal(signal.SIGINT)
                try:
                    child.wait(2)
                except (subprocess.TimeoutExpired, KeyboardInterrupt):
                    child.kill()
                raise

    def pip(self, line):
        __tracebackhide__ = True
        if all(name == "lo" for _, name in socket.if_nameindex()):
            raise OSError(
                "this sandbox has no network: create it with one that allows a package index"
            )
        if importlib.util.find_spec("pip") is None:
            raise ModuleNotFoundError("there is no pip in this image")
        env = {**os.environ, "PIP_BREAK_SYSTEM_PACKAGES": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        child = subprocess.run(["/bin/bash", "-c", f"{sys.executable} -m pip {line}"], env=env)
        packages = site.getusersitepackages()
        if os.path.isdir(packages) and packages not in sys.path:
            site.addsitedir(packages)
        importlib.invalidate_caches()
        if child.returncode:
            raise OSError(
                f"pip ended with {child.returncode}: above is why. What it could not reach, the "
                "sandbox's network policy may not open"
            )


def _no_input(prompt=""):
    __tracebackhide__ = True
    raise refused()
