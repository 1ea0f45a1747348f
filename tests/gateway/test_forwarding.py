"""Requests to servers in sandboxes over a real gateway; the servers are the test's, and often hostile."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sandboxd.errors import PortClosed
from sandboxd.gateway.context import Gateway
from sandboxd.gateway.forwarding import serving, sockets, tokens
from sandboxd.gateway.forwarding.tokens import Grant
from sandboxd.model import Template, agent
from sandboxd.policy import Policies
from sandboxd.queue import Queue
from sandboxd.queue.sessions import Sessions
from sandboxd.settings import Settings
from tests.gateway.fake_sessions import FakeSessions
from tests.gateway.fakes import FakeNode
from tests.gateway.test_smuggling import AMBIGUOUS, HIDDEN

ANN, BOB = ({"Authorization": f"Bearer {key}"} for key in ("ka", "kb"))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="session")
def policies(policies: Policies) -> Policies:
    session = Template(name="session", cpus=1.0, session=True)
    return replace(policies, templates={**policies.templates, "session": session})


@pytest.fixture
def settings(settings: Settings) -> Settings:
    gateway = replace(
        settings.gateway, ports_url="http://boxes.example", total_timeout=2.0, body_timeout=5.0
    )
    return replace(settings, gateway=gateway)


@pytest.fixture
def keys_file(tmp_path: Path) -> str:
    path = tmp_path / "keys"
    lines = [f"{who}:{hashlib.sha256(key.encode()).hexdigest()}" for who, key in (
        ("ann", "ka"), ("bob", "kb"))]  # fmt: skip
    path.write_text("\n".join(lines))
    return str(path)


class Inside:
    """A sandbox of Ann's, whose port 8000 a function of the test serves."""

    def __init__(self, sessions: FakeSessions, gateway: Gateway, name: str, port: int) -> None:
        self.sessions, self.gateway, self.id = sessions, gateway, name
        self.base = f"http://127.0.0.1:{port}"
        self.path = f"/v1/sandboxes/{name}/ports/8000"
        self.host = f"8000-{name.replace('_', '-')}.boxes.example"
        self.site = {"Host": self.host}
        self.heads: list[bytes] = []
        """What came, up to the end of the head, of each connection."""
        self._server: asyncio.Server | None = None

    async def serve(self, talk: Talk) -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await talk(reader, writer)
            writer.close()

        self.close()
        self._server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.sessions.servers[8000] = self._server.sockets[0].getsockname()[1]

    async def say(self, answer: bytes) -> None:
        async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer)
            await writer.drain()

        await self.serve(talk)

    async def token(self, **more: Any) -> str:
        grant = replace(Grant("ann", self.id, 8000, time.time() + 60), **more)
        return tokens.seal(await self.gateway.sandboxes.secret.get(), grant)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()


@pytest.fixture
async def inside(
    queue: Queue, settings: Settings, tmp_path: Path, wire: httpx.AsyncClient, port: int,
    gateway: Gateway,
) -> AsyncIterator[Inside]:  # fmt: skip
    directory = Sessions(settings)
    sessions = FakeSessions(tmp_path / "agent.sock", directory)
    await sessions.start()
    await queue.announce(FakeNode(queue, tmp_path / "agent.sock").record(), ttl=60)
    made = await wire.post("/v1/sandboxes", json={}, headers=ANN)
    assert made.status_code == 201, made.text
    inside = Inside(sessions, gateway, made.json()["id"], port)
    yield inside
    inside.close()
    await sessions.stop()
    await directory.close()


async def test_a_request_comes_as_it_was_sent_without_what_is_ours(
    inside: Inside, wire: httpx.AsyncClient
) -> None:
    await inside.say(OK)
    odd = "/a%2Fb//c;d?x=%20&y"
    sent = {"X-Mine": "1", "Connection": "x-hop", "X-Hop": "1", "TE": "trailers", "Cookie": "a=b"}
    answer = await wire.get(inside.path + odd, headers={**ANN, **sent})
    assert (answer.status_code, answer.text) == (200, "ok")
    head = inside.heads[0].lower().decode()
    assert head.startswith(f"get {odd.lower()} http/1.1\r\nhost: localhost:8000\r\n")
    assert "\r\nx-mine: 1\r\n" in head
    assert f"\r\nx-forwarded-prefix: {inside.path}\r\n" in head
    assert "\r\nconnection: close\r\n" in head
    for absent in ("authorization", "x-hop", "te:", "cookie"):
        assert absent not in head, absent
    token = await inside.token()
    answer = await wire.get(
        odd + f"&sandboxd-token={token}",
        headers={**inside.site, "Cookie": "a=b; sandboxd-token=zzz", "Authorization": "Basic x"},
    )
    assert answer.status_code == 200, answer.text
    head = inside.heads[1].lower().decode()
    assert head.startswith(f"get {odd.lower()} http/1.1\r\nhost: {inside.host}\r\n")
    assert "\r\ncookie: a=b\r\n" in head and "\r\nauthorization: basic x\r\n" in head
    assert "sandboxd-token" not in head and "x-forwarded-prefix" not in head


async def test_bodies_stream_both_ways_at_once(inside: Inside, port: int) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            writer.write(b"%x\r\n" % size + await reader.readexactly(size + 2))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    await inside.serve(echo)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"POST {inside.path}/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ka\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode()
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 200 ")
    for word in (b"one", b"two", b"three"):  # the next is only said once the last has come back
        chunk = b"%x\r\n%s\r\n" % (len(word), word)
        writer.write(chunk)
        assert await asyncio.wait_for(reader.readexactly(len(chunk)), 5) == chunk
    writer.write(b"0\r\n\r\n")
    assert await asyncio.wait_for(reader.readexactly(5), 5) == b"0\r\n\r\n"
    writer.close()


HOSTILE = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-x\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nX: y",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    "an unasked upgrade": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "a status of its own": b"HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n",
    "control characters": b"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 0\r\n\r\n",
    "a folded length": b"HTTP/1.1 200 OK\r\nContent-Length:\r\n 2x\r\n\r\nok",
    "a head without end": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000,
    "many fields": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 5000 + b"\r\n",
    "an unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, x\r\n\r\n",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_an_answer_that_is_none_is_a_bad_gateways(
    inside: Inside, wire: httpx.AsyncClient, name: str
) -> None:
    await inside.say(HOSTILE[name])
    answer = await wire.get(f"{inside.path}/", headers=ANN)
    assert (answer.status_code, answer.json()["code"]) == (502, "bad_answer"), answer.text


@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nxyz\r\n",
    ],
)
async def test_an_answer_that_breaks_off_does_not_seem_whole(
    inside: Inside, wire: httpx.AsyncClient, broken: bytes
) -> None:
    await inside.say(broken)
    with pytest.raises(httpx.RemoteProtocolError):
        await wire.get(f"{inside.path}/", headers=ANN)


async def test_what_a_server_says_too_much_is_nobodys_answer(
    inside: Inside, wire: httpx.AsyncClient
) -> None:
    await inside.say(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    for _ in range(3):  # over one connection of the client
        assert (await wire.get(f"{inside.path}/", headers=ANN)).text == "ok"
    assert (await wire.get("/healthz")).text != "evil"
    assert len(inside.heads) == 3


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_no_second_request_gets_in_with_an_ambiguous_one(
    inside: Inside, port: int, name: str
) -> None:
    came: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        came.append(await reader.read())

    await inside.serve(listen)
    auth = b"\r\nAuthorization: Bearer ka\r\n"
    request = AMBIGUOUS[name].replace(b"/v1/runs", inside.path.encode() + b"/")
    request = request.replace(b"\r\n", auth, 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request + HIDDEN)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(reader.read(), 1)
    writer.close()
    for _ in range(50):
        if len(came) == len(inside.heads):
            break
        await asyncio.sleep(0.02)
    assert len(inside.heads) <= 1
    assert not any(b"healthz" in each for each in (*inside.heads, *came))


async def test_a_token_opens_one_port_of_one_sandbox(
    inside: Inside, wire: httpx.AsyncClient
) -> None:
    await inside.say(OK)
    link = await wire.post(inside.path, json={"expires_in": 60}, headers=ANN)
    assert link.status_code == 201, link.text
    assert link.json()["url"].startswith(f"http://{inside.host}/?sandboxd-token=")
    token = link.json()["token"]
    for way in (
        {"url": f"/v1/ports/{token}/", "headers": {}},
        {"url": "/", "headers": {**inside.site, "X-Sandboxd-Token": token}},
        {"url": f"/?sandboxd-token={token}", "headers": inside.site},
        {"url": "/", "headers": {**inside.site, "Cookie": f"sandboxd-token={token}"}},
        {"url": "/", "headers": {**inside.site, **ANN}},
    ):
        assert (await wire.get(**way)).text == "ok", way  # type: ignore[arg-type]
    refused = [
        {**inside.site},
        {**inside.site, **BOB},
        {**inside.site, "X-Sandboxd-Token": token[:-2]},
        {**inside.site, "X-Sandboxd-Token": await inside.token(port=8001)},
        {**inside.site, "X-Sandboxd-Token": await inside.token(expires=time.time() - 1)},
        {**inside.site, "X-Sandboxd-Token": await inside.token(sandbox="sbx_" + "a" * 26)},
        {**inside.site, "Cookie": f"sandboxd-token={token}", "Origin": "http://x.boxes.example"},
        {"Host": inside.host.replace("8000", "8001"), "X-Sandboxd-Token": token},
    ]
    codes = [(await wire.get("/", headers=each)).status_code for each in refused]
    assert codes == [401, 404, 401, 401, 401, 401, 401, 401]
    for bad in (token[:-2], await inside.token(expires=1.0), "x"):
        assert (await wire.get(f"/v1/ports/{bad}/")).status_code == 404
    # A token of another tenant's making: he may sign, but not for what is not his.
    assert (await wire.post(inside.path, json={}, headers=BOB)).status_code == 404
    foreign = await inside.token(tenant="bob")
    assert (await wire.get(f"/v1/ports/{foreign}/")).status_code == 404


async def test_a_browser_gets_the_token_out_of_its_address(
    inside: Inside, wire: httpx.AsyncClient
) -> None:
    await inside.say(OK)
    token, browser = await inside.token(), {**inside.site, "Accept": "text/html,*/*"}
    moved = await wire.get(
        f"{inside.base}//evil.example/x?a=1&sandboxd-token={token}", headers=browser
    )
    assert moved.status_code == 303
    assert moved.headers["location"] == f"http://{inside.host}//evil.example/x?a=1"
    cookie = moved.headers["set-cookie"]
    assert cookie.startswith(f"sandboxd-token={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age=")
    assert 0 < int(cookie.rpartition("=")[2]) <= 60
    assert not inside.heads
    there = {**browser, "Cookie": cookie.partition(";")[0]}
    assert (await wire.get("/x?a=1", headers=there)).text == "ok"


async def test_pages_on_the_apis_host_are_confined_and_those_on_their_own_are_not(
    inside: Inside, wire: httpx.AsyncClient
) -> None:
    await inside.say(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\n" + OK.partition(b"\r\n")[2])
    shared = await wire.get(f"{inside.path}/", headers=ANN)
    assert shared.headers["content-security-policy"].startswith("sandbox ")
    assert "set-cookie" not in shared.headers
    own = await wire.get("/", headers={**inside.site, **ANN})
    assert own.headers["set-cookie"] == "a=b" and "content-security-policy" not in own.headers


async def test_who_does_not_listen_or_answer_is_named(
    inside: Inside, wire: httpx.AsyncClient
) -> None:
    path = inside.path.replace("8000", "9")

    def closed(call: agent.Call, _: asyncio.StreamWriter) -> Any:
        if isinstance(call, agent.Connect):
            raise PortClosed("nobody listens on port 9")

    inside.sessions.act = closed
    answer = await wire.get(f"{path}/", headers=ANN)
    assert (answer.status_code, answer.json()["code"]) == (502, "port_closed")

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    await inside.serve(silent)
    answer = await wire.get(f"{inside.path}/", headers=ANN)
    assert (answer.status_code, answer.json()["code"]) == (504, "no_answer")
    stuck = {**ANN, "Content-Length": "9"}
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(inside.base).port)
    head = "".join(f"{name}: {value}\r\n" for name, value in stuck.items())
    writer.write(f"POST {inside.path}/ HTTP/1.1\r\nHost: localhost\r\n{head}\r\nx".encode())
    told = await asyncio.wait_for(reader.read(), 10)
    assert b" 408 " in told.partition(b"\r\n")[0] or b" 504 " in told.partition(b"\r\n")[0]
    writer.close()


async def test_a_client_who_does_not_read_stops_the_server_inside(
    inside: Inside, port: int, gateway: Gateway
) -> None:
    sent = 0

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    await inside.serve(pour)
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    head = f"GET {inside.path}/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ka\r\n\r\n"
    writer.write(head.encode())
    before = -1
    while sent != before:
        before = sent
        await asyncio.sleep(0.3)
    assert 0 < sent < 40 << 20, "sockets' buffers alone"
    assert gateway.slots.taken == 1
    writer.transport.abort()
    for _ in range(100):
        if not gateway.slots.taken:
            break
        await asyncio.sleep(0.02)
    assert gateway.slots.taken == 0


@contextlib.asynccontextmanager
async def _speaking(
    inside: Inside, handler: Callable[[ServerConnection], Awaitable[None]], **options: Any
) -> AsyncIterator[None]:
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        inside.sessions.servers[8000] = next(iter(server.sockets)).getsockname()[1]
        yield


def _dial(inside: Inside, rest: str = "/chat?x=1", **options: Any) -> connect:
    headers = {**ANN, **options.pop("headers", {})}
    uri = inside.base.replace("http", "ws") + inside.path + rest
    return connect(uri, additional_headers=headers, proxy=None, **options)


async def test_messages_pings_and_closes_of_a_websocket(inside: Inside) -> None:
    asked: list[Any] = []
    closed: asyncio.Future[tuple[int | None, str | None]] = asyncio.Future()

    async def echo(socket: ServerConnection) -> None:
        asked.append(socket.request)
        with contextlib.suppress(ConnectionClosed):
            await (await socket.ping())
            async for word in socket:
                if word == "part":
                    await socket.send(iter(["fra", "gm", "ents"]))
                elif word == "bye":
                    await socket.close(4001, "so long")
                else:
                    await socket.send(word)
        if not closed.done() and socket.close_code != 4001:
            closed.set_result((socket.close_code, socket.close_reason))

    async with _speaking(inside, echo, subprotocols=["b", "c"]):
        async with _dial(inside, subprotocols=["a", "b"], headers={"Cookie": "x=y"}) as socket:
            assert socket.subprotocol == "b"
            for word in ("höre", b"\0\xff" * 1000, "", b"x" * 900_000):
                await socket.send(word)
                assert await socket.recv() == word
            await socket.send("part")
            assert await socket.recv() == "fragments"
            await (await socket.ping())
            await socket.close(4002, "enough")
        assert await asyncio.wait_for(closed, 5) == (4002, "enough")
        async with _dial(inside, subprotocols=["c"]) as socket:
            await socket.send("bye")
            with pytest.raises(ConnectionClosed) as over:
                await socket.recv()
            assert (over.value.rcvd.code, over.value.rcvd.reason) == (4001, "so long")  # type: ignore[union-attr]
    request = asked[0]
    assert request.path == "/chat?x=1" and request.headers["Host"] == "localhost:8000"
    assert "Authorization" not in request.headers and "Cookie" not in request.headers
    assert request.headers["X-Forwarded-Prefix"] == inside.path


async def test_websockets_by_name_and_by_token(inside: Inside) -> None:
    async def hello(socket: ServerConnection) -> None:
        assert socket.request is not None
        await socket.send(f"{socket.request.path} {socket.request.headers['Host']}")

    token = await inside.token()
    port = httpx.URL(inside.base).port
    async with _speaking(inside, hello):
        uri = f"ws://127.0.0.1:{port}/v1/ports/{token}/x"
        # A confined page has the origin null, and has to have been given the token.
        async with connect(uri, origin="null", proxy=None) as socket:  # type: ignore[arg-type]
            assert await socket.recv() == "/x localhost:8000"
        named = {"host": "127.0.0.1", "port": port, "proxy": None}
        uri = f"ws://{inside.host}/x"
        async with connect(f"{uri}?sandboxd-token={token}", **named) as socket:  # type: ignore[arg-type]
            assert await socket.recv() == f"/x {inside.host}"
        cookie = {"Cookie": f"sandboxd-token={token}"}
        origin = f"http://{inside.host}"
        async with connect(uri, origin=origin, additional_headers=cookie, **named) as socket:  # type: ignore[arg-type]
            assert await socket.recv() == f"/x {inside.host}"
        for bad in ("http://other.boxes.example", "null"):
            with pytest.raises(InvalidStatus) as refused:
                await connect(uri, origin=bad, additional_headers=cookie, **named)  # type: ignore[arg-type]
            assert refused.value.response.status_code == 401


async def test_a_handshake_that_is_refused_inside_is_refused_with_the_same_words(
    inside: Inside,
) -> None:
    body = b"HTTP/1.1 418 Teapot\r\nX: y\r\nContent-Length: 6\r\n\r\nteapot"
    await inside.say(body)
    with pytest.raises(InvalidStatus) as refused:
        await _dial(inside)
    response = refused.value.response
    assert (response.status_code, response.body, response.headers["x"]) == (418, b"teapot", "y")
    for bad in (b"", b"SSH\r\n\r\n", b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
                b"Sec-WebSocket-Accept: wrong\r\n\r\n", b"HTTP/1.1 799 x\r\n\r\n"):  # fmt: skip
        await inside.say(bad)
        with pytest.raises(InvalidStatus) as refused:
            await _dial(inside)
        assert refused.value.response.status_code == 502, bad


async def test_a_server_that_breaks_the_protocol_reaches_nobody(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "_FRAGMENTS_MAX", 10)
    for data, code in (
        (b"\x81\x01\xff", 1007),  # no UTF-8
        (b"\x83\x00", 1002),  # an opcode that there is not
        (b"\xc1\x01x", 1002),  # a reserved bit
        (b"\x82\x7f" + (1 << 30).to_bytes(8), 1009),
        (b"\x02\x00" + b"\x00\x00" * 20, 1008),  # no fragment is the last
        (b"", 1014),
    ):

        async def rude(socket: ServerConnection, data: bytes = data) -> None:
            if data:
                socket.transport.write(data)
                await asyncio.sleep(0.2)
            socket.transport.close()

        async with _speaking(inside, rude, close_timeout=0.1), _dial(inside) as client:
            with pytest.raises(ConnectionClosed) as over:
                await client.recv()
            assert over.value.rcvd is not None and over.value.rcvd.code == code, data


async def test_one_sandbox_does_not_take_every_slot(
    inside: Inside, wire: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_AT_ONCE", 2)

    async def wait(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    await inside.serve(wait)
    asked = [asyncio.create_task(wire.get(f"{inside.path}/", headers=ANN)) for _ in range(2)]
    while len(inside.heads) < 2:
        await asyncio.sleep(0.01)
    answer = await wire.get(f"{inside.path}/", headers=ANN)
    assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")
    assert [(await task).status_code for task in asked] == [504, 504]
