"""Contexts of interpreters that are programs of their own: fed a piece of code at a time by this bridge.

The interpreter says on a descriptor of its own what became of a piece: documents as those of `wire`,
then `{"over": NUMBER}`. All else that it prints is output.
"""

import json
import os
import subprocess

from sandboxd_kernel.serial import Serial

SAID = 99
"""Descriptor on which the interpreter says what became of a piece of code."""
ERRORS = 98
"""Its stderr, for one that is started without."""


class Bridge(Serial):
    """Begins with the interpreter's start."""

    command = ()
    quiet = False
    """It complains at its start: its stderr waits on `ERRORS`, until it is told to take it."""
    begin = ""
    """What it is told first."""

    def __init__(self, wire):
        super().__init__(wire)
        self._number = 0
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

    def execute(self, code, env, hear):
        self._do(self.piece, code, env, hear=lambda document: hear(self.heard(document)))

    def move(self, directory):
        refused = []
        self._do(self.moved, directory, hear=refused.append)
        return not refused

    def export(self, env):
        self._do(self.exported, env)

    def interrupt(self):
        super().interrupt()
        self._say(self.after_interrupt(self._number))

    def _say(self, text):
        self._program.stdin.write(text.encode())
        self._program.stdin.flush()

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
        self.wire.settle()
        os._exit(self._program.wait() & 255)
