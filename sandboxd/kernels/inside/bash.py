"""The Bash context.

The shell is interactive, though no terminal is there: an interrupt then ends the command line that it
is at, and not the shell.
"""

import shlex

from sandboxd_kernel.bridge import ERRORS, SAID, Bridge
from sandboxd_kernel.wire import Wire


def main():
    wire = Wire()
    try:
        Shell(wire).serve()
    except FileNotFoundError:
        wire.send("refused", reason="no_interpreter", detail="there is no bash in this image")


class Shell(Bridge):
    command = ("bash", "--noprofile", "--norc", "--noediting", "-i")
    quiet = True
    begin = f"""PS1= PS2= PROMPT_COMMAND=
set +o history +H
unset HISTFILE
exec 2>&{ERRORS} {ERRORS}>&-
"""

    def piece(self, code, env, number):
        command = f"eval {shlex.quote(code)}"
        if env:  # of this piece alone, in a function's own scope
            command = f"_sandboxd_run() {{ local -x {_assigned(env)}; {command}; }}; _sandboxd_run"
        exception = '{"type": "exception", "name": "ExitStatus", "value": "%s", "traceback": ""}\\n'
        return _line(command, number, f"printf '{exception}'")

    def moved(self, directory, number):
        return _line(f"cd -- {shlex.quote(directory)}", number, "printf '{\"refused\": %s}\\n'")

    def exported(self, env, number):
        return _line(f"export {_assigned(env)}", number, "printf ''")

    def after_interrupt(self, number):
        """It has dropped the line that would have told of the end."""
        return _over(number)


def _line(command, number, failed):
    """`failed` is a command that says so; the exit status is added to it."""
    check = f"_sandboxd=$?; [ $_sandboxd = 0 ] || {failed} $_sandboxd >&{SAID}"
    return f"{command} </dev/null {SAID}>&-\n{check}\n{_over(number)}"


def _over(number):
    return f"printf '{{\"over\": {number}}}\\n' >&{SAID}\n"


def _assigned(env):
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in env.items())
