"""A child process that dies with us, however we die."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_TETHER = Path(__file__).with_name("tether.py")


class Child:
    """A running child. Keep it: its life hangs on ours."""

    def __init__(self, process: asyncio.subprocess.Process, line: int) -> None:
        self._process = process
        self._line: int | None = line
        self.pid = process.pid

    @property
    def output(self) -> asyncio.StreamReader | None:
        """Its stdout and stderr, if they were asked for."""
        return self._process.stdout

    @property
    def returncode(self) -> int | None:
        """Exit code, or minus the signal; None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Exit code, or minus the signal that ended it."""
        code = await self._process.wait()
        if self._line is not None:
            os.close(self._line)
            self._line = None
        return code

    def hang_up(self) -> None:
        """Tell it by SIGHUP that what it reads has changed."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGHUP)

    async def stop(self, grace: float) -> int:
        """Ask it to end, and end it after `grace` seconds. Returns as `wait`."""
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(grace):
                return await self.wait()
        except TimeoutError:
            if self._process.returncode is None:
                self._process.kill()
            return await self.wait()


async def spawn(
    command: Sequence[str],
    *,
    uid: int | None = None,
    directory: Path | None = None,
    env: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
    read_output: bool = False,
) -> Child:
    """Start `command` in a session of its own, so that a Ctrl-C reaches only us.

    `uid` is its user and group, `descriptors` are left open in it. Raises OSError.
    """
    theirs, ours = os.pipe()
    output = asyncio.subprocess.PIPE if read_output else None
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(_TETHER), str(theirs),
            "-" if uid is None else str(uid), *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT if read_output else None,
            cwd=directory,
            env=env,
            pass_fds=(theirs, *descriptors),
            start_new_session=True,
        )  # fmt: skip
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return Child(process, ours)
