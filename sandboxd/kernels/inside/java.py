"""The Java context: JShell, within a program that the JDK of the image compiles as it starts."""

import os
import shutil
import tempfile

from sandboxd_kernel.bridge import SAID, Bridge
from sandboxd_kernel.sources import KERNEL
from sandboxd_kernel.wire import Wire, shortened

_TOLD = 7
"""Descriptor on which it is told what to do. Of one digit, for sh."""


def main():
    wire = Wire()
    if shutil.which("java") is None or shutil.which("javac") is None:
        wire.send("refused", reason="no_interpreter", detail="there is no JDK in this image")
        return
    Java(wire).serve()


class Java(Bridge):
    def __init__(self, wire):
        self._place = tempfile.mkdtemp(prefix="context-")
        options = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
        start = f'exec java {options} "$0" {SAID} {_TOLD} {_TOLD}<&0 </dev/null'
        self.command = ("sh", "-c", start, self._file("Kernel.java", KERNEL))
        super().__init__(wire)

    def piece(self, code, env, number):
        """Its environment is what the process began with: Java has no way to change it."""
        return f"{number} {self._file('code', code)}\n"

    def moved(self, directory, number):
        """Java has no working directory to change: the process is started in it."""
        return f"{number} {self._file('code', '')}\n"

    def exported(self, env, number):
        return f"{number} {self._file('code', '')}\n"

    def heard(self, document):
        if document["type"] == "result":
            document["text"] = shortened(document["text"])
        return document

    def _file(self, name, text):
        path = os.path.join(self._place, name)
        with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        return path
