"""multiprocessing in each of its ways, shared memory, executors, asyncio with subprocesses."""

import asyncio
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import shared_memory


def square(number: int) -> int:
    return number * number


def fill(name: str) -> None:
    memory = shared_memory.SharedMemory(name)
    memory.buf[0] = 7
    memory.close()


async def children() -> list[str]:
    async def one(number: int) -> str:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", f"print({number} * 2)", stdout=asyncio.subprocess.PIPE
        )
        out, _ = await child.communicate()
        return out.decode().strip()

    return await asyncio.gather(*map(one, range(3)))


if __name__ == "__main__":
    for way in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(way).Pool(2) as pool:
            print(way, pool.map(square, range(5)))
    with ProcessPoolExecutor(2) as pool, ThreadPoolExecutor(4) as threads:
        print(list(pool.map(square, range(5))), list(threads.map(square, range(5))))
    memory = shared_memory.SharedMemory(create=True, size=64)
    child = multiprocessing.Process(target=fill, args=(memory.name,))
    child.start()
    child.join()
    print(memory.buf[0])
    memory.close()
    memory.unlink()
    queue = multiprocessing.Manager().Queue()
    queue.put("through a manager")
    print(queue.get())
    print(asyncio.run(children()))
