"""Requests whose length two parties could read in two ways, and text that wants to be more than text."""

import asyncio
import re

import httpx
import pytest

HIDDEN = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"

AMBIGUOUS = {
    "length and chunked": POST + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "chunked and length": POST + CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 50\r\n\r\n{}",
    "two lengths in one": POST + b"Content-Length: 2, 2\r\n\r\n{}",
    "a signed length": POST + b"Content-Length: +2\r\n\r\n{}",
    "a negative length": POST + b"Content-Length: -2\r\n\r\n{}",
    "a length in hexadecimal": POST + b"Content-Length: 0x2\r\n\r\n{}",
    "a length beyond 64 bits": POST + b"Content-Length: 18446744073709551618\r\n\r\n{}",
    "space before the colon": POST + b"Content-Length : 2\r\n\r\n{}",
    "chunked is not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a folded field": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "a chunk beyond 64 bits": POST + CHUNKED + b"\r\n10000000000000002\r\n{}\r\n0\r\n\r\n",
    "a negative chunk": POST + CHUNKED + b"\r\n-2\r\n{}\r\n0\r\n\r\n",
    "a chunk in 0x": POST + CHUNKED + b"\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "a chunk that ends late": POST + CHUNKED + b"\r\n2\r\n{}X\r\n0\r\n\r\n",
    "NUL in a field": POST + b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    "a bare return in a field": POST + b"X: a\rContent-Length: 2\r\n\r\n{}",
    "a line without a colon": POST + b"Content-Length 2\r\n\r\n{}",
    "space in the target": b"GET /healthz /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another version": b"GET /healthz HTTP/3.7\r\nHost: localhost\r\n\r\n",
}


async def answers(port: int, data: bytes) -> list[bytes]:
    """Status codes, until the gateway closes or says nothing for a second."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    received = b""
    try:
        async with asyncio.timeout(3):
            while part := await reader.read(65_536):
                received += part
    except TimeoutError:
        pass
    writer.close()
    # A body without an end of line stands right before the next status.
    return re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_ambiguous_request_is_refused_and_nothing_after_it_is_read(
    port: int, name: str
) -> None:
    told = await answers(port, AMBIGUOUS[name] + HIDDEN)
    assert len(told) == 1, told
    assert told[0] in (b"400", b"411", b"413", b"501", b"505"), told


async def test_what_follows_an_unambiguous_request_is_answered(port: int) -> None:
    """So that the refusals above are of the ambiguity and not of the second request."""
    told = await answers(port, POST + b"Content-Length: 2\r\n\r\n{}" + HIDDEN)
    assert told == [b"422", b"200"]
    told = await answers(port, POST + CHUNKED + b"\r\n2\r\n{}\r\n0\r\n\r\n" + HIDDEN)
    assert told == [b"422", b"200"]


@pytest.mark.parametrize(
    "name",
    [
        "a\r\nSet-Cookie: b=c",
        'a"; filename="b',
        "a\\",
        "\x00\x1b[2J",
        "ü\u2028\ud83d\ude00",
        "a" * 5_000,
    ],
)
async def test_a_files_name_stays_one_parameter_of_one_field(
    wire: httpx.AsyncClient, name: str
) -> None:
    """The one text of a client's that comes back in a head."""
    quoted = name.encode("utf-8", "replace").replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="' + quoted + b'"\r\n\r\n'
        b"data\r\n--x--\r\n"
    )
    kept = await wire.post(
        "/compat/go_judge/file", content=body,
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )  # fmt: skip
    if kept.status_code == 400:
        return
    assert kept.status_code == 200, kept.text
    answer = await wire.get(f"/compat/go_judge/file/{kept.json()}")
    assert answer.status_code == 200 and answer.content == b"data"
    assert "set-cookie" not in answer.headers
    value = answer.headers["content-disposition"]
    assert re.fullmatch(r'attachment; filename="(?:[ !#-\[\]-~]|\\["\\/a-z0-9])*"', value), value


async def test_a_header_of_ours_echoes_nothing(wire: httpx.AsyncClient) -> None:
    for sent in ({"Prefer": "respond-async, wait=1\tx"}, {"Idempotency-Key": "a\tb"}):
        answer = await wire.post(
            "/v1/runs", json={"language": "python", "source": "1"}, headers=sent
        )
        assert all("\t" not in value for value in answer.headers.values())
