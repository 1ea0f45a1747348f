"""Run by `e2b` in an environment that has E2B's client; prints what `programs/spawn.c` prints.

e2b_driver CLIENTS SECONDS MAX_JOBS EXPECTED_STDOUT
"""

import asyncio
import itertools
import struct
import sys
import time
from array import array

from e2b import AsyncSandbox

_COMMAND = "python3 -I -S -c 'print(1)'"


class Driver:
    def __init__(self, seconds: float, most: int, expected: str) -> None:
        self._deadline = time.monotonic_ns() + int(seconds * 1e9)
        self._numbers = itertools.count()
        self._most, self._expected = most, expected
        self.latencies = array("Q")
        self.wrong_exit = self.wrong_stdout = 0

    async def client(self) -> None:
        while (start := time.monotonic_ns()) < self._deadline and next(self._numbers) < self._most:
            box = await AsyncSandbox.create()
            try:
                done = await box.commands.run(_COMMAND)
            finally:
                await box.kill()
            if done.exit_code:
                self.wrong_exit += 1
            elif done.stdout != self._expected:
                self.wrong_stdout += 1
            else:
                self.latencies.append(time.monotonic_ns() - start)


async def main() -> None:
    clients, seconds, most, expected = sys.argv[1:]
    driver = Driver(float(seconds), int(most), expected)
    began = time.monotonic_ns()
    async with asyncio.TaskGroup() as group:
        for _ in range(int(clients)):
            group.create_task(driver.client())
    elapsed = time.monotonic_ns() - began
    own = int(time.process_time() * 1e9)
    counts = (len(driver.latencies), 0, driver.wrong_exit, driver.wrong_stdout)
    sys.stdout.buffer.write(
        struct.pack("=7Q", *counts, elapsed, own, 0) + driver.latencies.tobytes()
    )


if __name__ == "__main__":
    asyncio.run(main())
