"""The three streams, over real pipes."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Callable

import pytest

from sandboxd.node.stdio import FixedInput, LiveInput, Output

PIPE = 65_536


@pytest.fixture(autouse=True)
async def no_descriptor_left() -> AsyncIterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) == before


class Child:
    """The program's end of an output."""

    def __init__(self, output: Output) -> None:
        self.fd = os.dup(output.child_fd)
        os.set_blocking(self.fd, False)

    async def write(self, data: bytes) -> None:
        """As a program would: waits while the pipe is full."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.fd, view) :]
            except BlockingIOError:
                await asyncio.sleep(0.001)

    def close(self) -> None:
        os.close(self.fd)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("cap", [0, 1, 4_096, PIPE, 200_000])
@pytest.mark.parametrize("more", [-1, 0, 1, 100_000])
async def test_cap_is_kept_whole_and_one_byte_more_is_a_breach(cap: int, more: int) -> None:
    if cap + more < 0:
        pytest.skip("nothing to write")
    breaches: list[int] = []
    output = Output(cap, lambda: breaches.append(1))
    child = Child(output)
    output.start()
    data = os.urandom(cap + more)
    await child.write(data)
    child.close()
    await until(lambda: output._reader.fd < 0)
    assert bytes(output.kept) == data[:cap]
    assert output.exceeded is (more > 0)
    assert len(breaches) == (1 if more > 0 else 0)


async def test_breach_is_told_at_once_while_the_program_still_writes() -> None:
    told = asyncio.Event()
    output = Output(10, told.set)
    child = Child(output)
    output.start()
    await child.write(b"x" * 11)
    await asyncio.wait_for(told.wait(), 10)
    await child.write(b"y" * 3 * PIPE)  # is read on and dropped: the program is not held up
    child.close()
    output.drain()
    assert bytes(output.kept) == b"x" * 10


async def test_what_a_dead_program_left_in_the_pipe_is_taken() -> None:
    output = Output(PIPE, lambda: None)
    child = Child(output)
    output.start()
    output.pause()
    os.write(child.fd, b"last words")
    child.close()
    output.drain()
    assert bytes(output.kept) == b"last words"


async def test_drain_does_not_wait_for_who_holds_the_pipe() -> None:
    output = Output(PIPE, lambda: None)
    child = Child(output)
    output.start()
    os.write(child.fd, b"said")
    output.drain()
    assert bytes(output.kept) == b"said"
    with pytest.raises(BrokenPipeError):
        os.write(child.fd, b"more")
    child.close()


async def test_drain_before_start_closes_both_ends() -> None:
    Output(PIPE, lambda: None).drain()


async def test_paused_output_holds_the_program_up_and_resumes_without_loss() -> None:
    output = Output(1 << 20, lambda: None)
    child = Child(output)
    output.start()
    output.pause()
    data = os.urandom(3 * PIPE)
    writing = asyncio.create_task(child.write(data))
    await asyncio.sleep(0.05)
    assert not writing.done() and output.kept == b""
    output.resume()
    await writing
    child.close()
    await until(lambda: output._reader.fd < 0)
    assert bytes(output.kept) == data


async def test_listener_hears_exactly_what_is_kept() -> None:
    heard = bytearray()
    output = Output(100, lambda: None)
    output.listener = heard.extend
    child = Child(output)
    output.start()
    for _ in range(5):
        await child.write(b"z" * 30)
        await asyncio.sleep(0)
    child.close()
    await until(lambda: output._reader.fd < 0)
    assert heard == output.kept == b"z" * 100


def test_empty_input_needs_no_descriptor() -> None:
    assert FixedInput(b"").child_fd is None


async def test_fixed_input_is_read_from_its_start_and_cannot_be_changed() -> None:
    stdin = FixedInput(b"given")
    assert stdin.child_fd is not None
    assert os.read(stdin.child_fd, 100) == b"given"
    with pytest.raises(PermissionError):
        os.pwrite(stdin.child_fd, b"other", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(stdin.child_fd, 1 << 30)
    seals = fcntl.fcntl(stdin.child_fd, fcntl.F_GET_SEALS)
    assert seals & fcntl.F_SEAL_SEAL
    stdin.start()
    stdin.close()


async def test_live_input_waits_for_the_program_to_read() -> None:
    stdin = LiveInput()
    assert stdin.child_fd is not None
    reader = os.dup(stdin.child_fd)
    stdin.start()
    data = os.urandom(4 * PIPE)
    writing = asyncio.create_task(stdin.write(data))
    await asyncio.sleep(0.05)
    assert not writing.done()
    os.set_blocking(reader, False)
    got = bytearray()
    while len(got) < len(data):
        try:
            got += os.read(reader, PIPE)
        except BlockingIOError:
            await asyncio.sleep(0.001)
    assert await writing and got == data
    stdin.close()
    assert os.read(reader, 1) == b""
    os.close(reader)


async def test_live_input_gives_up_when_nobody_reads() -> None:
    stdin = LiveInput()
    stdin.start()
    assert await stdin.write(b"x") is False
    assert await stdin.write(b"x") is False


@pytest.mark.parametrize("end", ["close", "reader leaves"])
async def test_writer_that_waits_is_let_go(end: str) -> None:
    stdin = LiveInput()
    assert stdin.child_fd is not None
    reader = os.dup(stdin.child_fd)
    stdin.start()
    writing = asyncio.create_task(stdin.write(b"x" * 4 * PIPE))
    await asyncio.sleep(0.02)
    if end == "close":
        stdin.close()
    else:
        os.close(reader)
    assert await asyncio.wait_for(writing, 10) is False
    stdin.close()
    if end == "close":
        os.close(reader)


async def test_cancelled_writer_leaves_the_input_usable() -> None:
    stdin = LiveInput()
    assert stdin.child_fd is not None
    reader = os.dup(stdin.child_fd)
    stdin.start()
    writing = asyncio.create_task(stdin.write(b"x" * 2 * PIPE))
    await asyncio.sleep(0.02)
    writing.cancel()
    await asyncio.wait([writing])
    assert len(os.read(reader, PIPE)) == PIPE
    assert await asyncio.wait_for(stdin.write(b"next"), 10)
    stdin.close()
    os.close(reader)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("said", [(b"", b""), (b"last words", b""), (b"", b"x" * 1_000)])
async def test_ends_are_stamped_in_their_order_though_the_loop_was_busy(
    first: int, said: tuple[bytes, bytes]
) -> None:
    """As when both have ended by the time that the node gets a core."""
    outputs = [Output(PIPE, lambda: None) for _ in range(2)]
    children = [Child(output) for output in outputs]
    for output in outputs:
        output.start()
    await asyncio.sleep(0.01)  # watched, as they are while programs run
    for which in (first, 1 - first):
        os.write(children[which].fd, said[which])
        children[which].close()
    await until(lambda: all(output.closed_at is not None for output in outputs))
    stamps = [output.closed_at or 0.0 for output in outputs]
    assert stamps[first] < stamps[1 - first]
    assert tuple(bytes(output.kept) for output in outputs) == said
