"""Large files, whose bytes go from the gateway straight into the sandbox and out of it."""

import os
import time
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from tests.patience import PATIENCE
from tests.sandboxes.conftest import WAIT, Box
from tests.sandboxes.test_streams import raw, request

pytestmark = [pytest.mark.root, pytest.mark.service]

MIB = 1 << 20


def descriptors(box: Box) -> int:
    """Of gateway and node, while nothing of this sandbox goes on."""
    pids = [box.tenant.service.role(role) for role in ("gateway", "node")]
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


def settled(box: Box, most: int) -> int:
    deadline = time.monotonic() + WAIT
    while (found := descriptors(box)) > most and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def test_a_large_content_comes_back_whole_and_in_parts(box: Box) -> None:
    data = os.urandom(9 * MIB + 3)
    assert box.put("large", data, mode="640")["mode"] == 0o640
    assert box.get("large").content == data
    for first, last in ((0, 2 * MIB), (5, 5 + MIB), (MIB, len(data) - 1), (len(data) - 1, 2**40)):
        part = box.get("large", Range=f"bytes={first}-{last}")
        assert part.status_code == 206
        assert part.content == data[first : last + 1]
        end = min(last, len(data) - 1)
        assert part.headers["content-range"] == f"bytes {first}-{end}/{len(data)}"
    box.put("large", data[: 2 * MIB], append="true")
    box.put("large", b"x" * (2 * MIB), offset="1")
    expected = data[:1] + b"x" * (2 * MIB) + data[2 * MIB + 1 :] + data[: 2 * MIB]
    assert box.get("large").content == expected


def test_requests_behind_a_large_body_are_answered_on_its_connection(box: Box) -> None:
    """The body goes past the gateway: what is behind it, in the same bytes, does not."""
    first, second = os.urandom(3 * MIB), os.urandom(2 * MIB + 1)
    sent = b""
    for path, data in (("first", first), ("second", second)):
        length = f"Content-Length: {len(data)}"
        sent += request(box, "PUT", f"/files/content?path={path}", length).encode() + data
    sent += request(box, "GET", "/files/stat?path=second", "Connection: close").encode()
    with closing(raw(box, "")) as line:
        line.settimeout(WAIT)
        line.sendall(sent)
        answered = b""
        while piece := line.recv(65_536):
            answered += piece
    assert answered.count(b"HTTP/1.1 200 OK") == 3, answered
    assert box.get("first").content == first
    assert box.get("second").content == second


def test_an_upload_of_known_size_that_breaks_off_changes_nothing(box: Box) -> None:
    box.put("whole", b"before")
    before = descriptors(box)
    head = request(box, "PUT", "/files/content?path=whole", f"Content-Length: {64 * MIB}")
    with closing(raw(box, head)) as line:
        line.sendall(bytes(3 * MIB))
    assert settled(box, before) <= before, "the pipe has gone with its client"
    assert box.get("whole").content == b"before"
    names = [each["path"] for each in box.ok("GET", "/files?path=.")["entries"]]
    assert not [name for name in names if ".sbx-" in name]


def test_a_full_disk_is_told_before_all_has_come(fresh: Box) -> None:
    def zeros() -> Iterator[bytes]:
        for _ in range(600):
            yield bytes(MIB)

    answer = fresh.ask(
        "PUT", "/files/content?path=huge", content=zeros(),
        headers={"Content-Length": str(600 * MIB)},
    )  # fmt: skip
    assert (answer.status_code, answer.json()["code"]) == (507, "no_space")
    assert fresh.code("GET", "/files/stat?path=huge") == "path_not_found"
    assert fresh.sh("echo alive") == "alive\n"


def test_a_download_that_nobody_reads_on_is_let_go(box: Box) -> None:
    box.sh("truncate -s 1T endless")
    before = descriptors(box)
    for _ in range(5):
        with closing(raw(box, request(box, "GET", "/files/content?path=endless"))) as line:
            assert line.recv(100).startswith(b"HTTP/1.1 200")
    assert settled(box, before) <= before, "the file has gone with its client"


def test_a_large_file_that_shrinks_breaks_the_answer_off(box: Box) -> None:
    box.sh("head -c 60000000 /dev/zero > shrinks")
    with box.tenant.http.stream("GET", f"{box.path}/files/content?path=shrinks") as answer:
        pieces = answer.iter_raw()
        next(pieces)
        box.sh("truncate -s 10 shrinks")
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in pieces:
                pass


def test_what_is_no_file_is_no_file_at_any_size(box: Box) -> None:
    box.sh("mkfifo pipe; mkdir -p folder")
    for path in ("pipe", "folder"):
        answer = box.ask("PUT", f"/files/content?path={path}", content=bytes(2 * MIB))
        assert answer.json()["code"] == "wrong_file_type", answer.text


def test_a_sandbox_that_ends_ends_its_uploads(fresh: Box) -> None:
    def slow() -> Iterator[bytes]:
        for at in range(40):
            if at == 3:
                fresh.kill()
            yield bytes(MIB)
            time.sleep(0.02 * PATIENCE)

    answer = fresh.ask(
        "PUT", "/files/content?path=late", content=slow(), headers={"Content-Length": str(40 * MIB)}
    )
    assert answer.json()["code"] in ("sandbox_ended", "file_problem"), answer.text
