"""A run that is handed over: its handle, its events, its stream."""

import asyncio
import json
from contextlib import aclosing

import pytest
from sandboxd_client import (
    ConnectionFailed,
    Output,
    Overload,
    RequestError,
    ServerError,
    Status,
    Timeout,
)


async def test_submit_returns_before_the_end_and_wait_gives_the_result(client, service):
    run = await client.submit(language="python", source="hold")
    assert service.sent("POST")[0]["prefer"] == "respond-async"
    assert (await run.record()).state == "started"
    waiting = asyncio.create_task(run.wait())
    service.finish(run.id, stdout="done")
    answer = await waiting
    assert answer.stdout == "done" and answer.id == run.id


async def test_cancelled_run_ends_as_cancelled_and_cancelling_again_is_harmless(client, service):
    run = await client.submit(language="python", source="hold")
    await run.cancel()
    await run.cancel()
    assert (await run.wait()).status is Status.CANCELLED


async def test_run_is_found_again_by_its_id(client, service):
    run = await client.submit(language="python", source="", stdin="x")
    assert (await client.attach(run.id).wait()).stdout == "x"


async def test_id_that_is_no_id_never_becomes_a_path(client, service):
    for bad in ("../x", "a/b", "", "run_1?x", "run\n"):
        with pytest.raises(ValueError, match="not the id"):
            client.attach(bad)
    assert service.requests == []


async def test_unknown_run_is_a_request_error(client, service):
    with pytest.raises(RequestError) as caught:
        await client.attach("run_none").wait()
    assert caught.value.code == "not_found"


async def test_events_come_in_order_until_the_run_is_finished(client, service):
    run = await client.submit(language="python", source="")
    events = [event async for event in run.events()]
    assert [each.type for each in events] == ["queued", "leased", "started", "finished"]
    assert events[0].at == "2026-01-01T00:00:00Z" and events[0].data == {"attempt": 1}
    later = [event async for event in run.events(after=events[1].id)]
    assert later == events[2:]
    assert [event async for event in run.events(after=events[3].id)] == []


async def test_broken_event_streams_are_resumed_without_loss_or_repetition(client, service):
    run = await client.submit(language="python", source="")
    service.drops += [1, 0, 2]
    events = [event async for event in run.events()]
    assert [each.type for each in events] == ["queued", "leased", "started", "finished"]
    resumed = [headers.get("last-event-id") for headers in service.sent("GET")]
    assert resumed == [None, "1-0", "1-0", "3-0"]


async def test_event_streams_that_only_break_are_given_up(connect, service):
    client = connect(service.url, retries=1)
    run = await client.submit(language="python", source="hold")
    service.drops += [0] * 50
    with pytest.raises(ConnectionFailed):
        await run.wait()
    assert len(service.sent("GET")) == 5


async def test_wait_outlives_a_broken_event_stream(client, service):
    run = await client.submit(language="python", source="hold")
    service.drops += [3]
    waiting = asyncio.create_task(run.wait())
    service.finish(run.id, stdout="done")
    assert (await waiting).stdout == "done"


async def test_reader_that_leaves_the_events_early_frees_its_connection(connect, service):
    client = connect(service.url, max_connections=1)
    run = await client.submit(language="python", source="hold")
    events = run.events()
    if connect.kind == "sync":
        assert next(events.inner).type == "queued"
        events.inner.close()
    else:
        async with aclosing(events):
            assert (await anext(events)).type == "queued"
    assert (await run.record(timeout=5)).state == "started"


async def test_wait_ends_at_its_deadline_and_the_run_goes_on(client, service):
    run = await client.submit(language="python", source="hold")
    with pytest.raises(Timeout) as caught:
        await run.wait(timeout=0.2)
    assert caught.value.code == "timeout" and not caught.value.retryable
    assert service.runs[run.id].result is None


async def test_stream_carries_bytes_both_ways_and_ends_with_the_result(client, service):
    run = await client.submit(language="python", source="hold", interactive=True)
    assert service.posted()[0]["interactive"] is True
    big = bytes(range(256)) * 512
    seen: list[Output] = []
    async with run.stream() as stream:
        await stream.write(b"\x00\xff")
        await stream.write(big)
        await stream.close_stdin()
        async for piece in stream:
            seen.append(piece)
        answer = await stream.result()
    assert b"".join(p.data for p in seen if p.stream == "stdout") == b"\x00\xff" + big
    assert seen[-1] == Output("stderr", b"eof\n")
    assert answer.ok and answer.stderr == "eof\n"


async def test_more_than_all_buffers_hold_passes_both_ways_at_once(client, service):
    run = await client.submit(language="python", source="hold", interactive=True)
    block, times = bytes(1 << 20), 24

    async def feed(stream):
        for _ in range(times):
            await stream.write(block)
        await stream.close_stdin()

    async with asyncio.timeout(60), run.stream() as stream:
        feeding = asyncio.create_task(feed(stream))
        size = 0
        async for piece in stream:
            size += len(piece.data) if piece.stream == "stdout" else 0
        await feeding
    assert size == len(block) * times


async def test_end_of_the_run_frees_a_writer_that_nobody_reads(client, service):
    async def stall(socket, run):
        await socket.send_bytes(b"\x01up")
        async with run.changed:
            await run.changed.wait_for(lambda: run.result is not None)
        await socket.send_text(json.dumps({"type": "exit", "result": run.result}))
        await socket.close(1000)

    async def feed(stream):
        for _ in range(32):
            await stream.write(bytes(1 << 20))

    service.on_stream = stall
    run = await client.submit(language="python", source="hold", interactive=True)
    async with asyncio.timeout(30), run.stream() as stream:
        feeding = asyncio.create_task(feed(stream))
        async for _ in stream:
            await asyncio.sleep(0.2)  # lets the writer fill the buffers
            await asyncio.to_thread(service.finish, run.id)
        assert (await stream.result()).ok
        await feeding


async def test_writer_that_is_left_behind_gets_an_error(client, service):
    async def stall(socket, run):
        await socket.send_bytes(b"\x01up")
        async with run.changed:
            await run.changed.wait_for(lambda: run.result is not None)

    async def feed(stream):
        while True:
            await stream.write(bytes(1 << 20))

    service.on_stream = stall
    run = await client.submit(language="python", source="hold", interactive=True)
    async with asyncio.timeout(30), run.stream() as stream:
        feeding = asyncio.create_task(feed(stream))
        async for _ in stream:
            break
    with pytest.raises(ConnectionFailed):
        await feeding
    service.finish(run.id)


async def test_cancel_ends_a_stream_with_the_cancelled_result(client, service):
    run = await client.submit(language="python", source="hold", interactive=True)
    async with run.stream() as stream:
        await run.cancel()
        assert (await stream.result()).status is Status.CANCELLED


async def test_writing_to_a_program_that_has_ended_is_dropped(client, service):
    run = await client.submit(language="python", source="")

    async with run.stream() as stream:
        answer = await stream.result()
        for _ in range(20):
            await stream.write(b"x" * 100_000)
    assert answer.ok


async def test_stream_of_an_unknown_run_is_a_request_error(client, service):
    with pytest.raises(RequestError) as caught:
        async with client.attach("run_none").stream():
            pass
    assert (caught.value.code, caught.value.status) == ("not_found", 404)


async def test_error_on_the_stream_is_the_services_own(client, service):
    async def refuse(socket, run):
        problem = {"status": 503, "code": "unavailable", "detail": "node lost", "retryable": True}
        await socket.send_text(json.dumps({"type": "error", "problem": problem}))
        await socket.close(1000)

    service.on_stream = refuse
    run = await client.submit(language="python", source="hold", interactive=True)
    async with run.stream() as stream:
        with pytest.raises(Overload, match="node lost"):
            await stream.result()


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_stream_that_ends_without_an_exit_is_a_failed_connection(client, service, how):
    async def leave(socket, run):
        await socket.send_bytes(b"\x01some")
        if how == "abort":
            raise RuntimeError("on purpose")
        await socket.close(1001)

    service.on_stream = leave
    run = await client.submit(language="python", source="hold", interactive=True)
    async with run.stream() as stream:
        with pytest.raises(ConnectionFailed):
            await stream.result()


@pytest.mark.parametrize("frame", [b"\x07?", b"", "not json", '"text"', '{"type":"exit"}'])
async def test_frame_that_is_none_is_a_server_error(client, service, frame):
    async def babble(socket, run):
        await (socket.send_text if isinstance(frame, str) else socket.send_bytes)(frame)
        await socket.receive()

    service.on_stream = babble
    run = await client.submit(language="python", source="hold", interactive=True)
    async with run.stream() as stream:
        with pytest.raises(ServerError) as caught:
            await stream.result()
    assert caught.value.code == "bad_answer"


async def test_silent_stream_ends_at_its_deadline(client, service):
    run = await client.submit(language="python", source="hold", interactive=True)
    async with run.stream(timeout=0.3) as stream:
        with pytest.raises(Timeout):
            await stream.result()


async def test_write_that_nobody_takes_ends_at_the_deadline(client, service):
    async def stall(socket, run):
        async with run.changed:
            await run.changed.wait_for(lambda: run.result is not None)

    service.on_stream = stall
    run = await client.submit(language="python", source="hold", interactive=True)
    with pytest.raises(Timeout):
        async with run.stream(timeout=1) as stream:
            while True:
                await stream.write(b"x" * (1 << 20))
    service.finish(run.id)


async def test_stream_outside_its_context_is_a_programming_error(client, service):
    run = await client.submit(language="python", source="hold", interactive=True)
    with pytest.raises(RuntimeError, match="context manager"):
        await run.stream().write(b"x")
