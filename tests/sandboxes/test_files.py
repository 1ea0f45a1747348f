"""Files of an open sandbox: contents of any size, names of any bytes, and what must not get out."""

import base64
import errno
import io
import json
import os
import tarfile
import threading
import time
from urllib.parse import urlencode

import httpx
import pytest

from tests.sandboxes.conftest import WAIT, Box, resident

pytestmark = [pytest.mark.root, pytest.mark.service]

MIB = 1 << 20


def test_content_comes_back_as_it_went(box: Box) -> None:
    data = os.urandom(3 * MIB + 7)
    info = box.put("big/one", data)
    assert (info["size"], info["type"], info["uid"]) == (len(data), "file", 1000)
    answer = box.get("big/one")
    assert answer.content == data
    assert answer.headers["content-disposition"] == "attachment"
    assert answer.headers["x-content-type-options"] == "nosniff"
    head = box.ask("HEAD", "/files/content", params={"path": "big/one"})
    assert head.headers["content-length"] == str(len(data)) and head.content == b""


@pytest.mark.parametrize(
    ("wanted", "status", "content", "told"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=5-999", 206, b"56789", "bytes 5-9/10"),
        ("bytes=10-", 416, None, None),
        ("bytes=4-2", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
    ],
)
def test_ranges(
    box: Box, wanted: str, status: int, content: bytes | None, told: str | None
) -> None:
    box.put("ten", b"0123456789")
    answer = box.get("ten", Range=wanted)
    assert answer.status_code == status
    if content is not None:
        assert (answer.content, answer.headers.get("content-range")) == (content, told)


def test_a_download_is_resumed_only_while_the_file_is_the_same(box: Box) -> None:
    box.put("same", b"0123456789")
    tag = box.get("same").headers["etag"]
    assert box.get("same", Range="bytes=4-", **{"If-Range": tag}).content == b"456789"
    box.put("same", b"abcdefghij")
    changed = box.get("same", Range="bytes=4-", **{"If-Range": tag})
    assert (changed.status_code, changed.content) == (200, b"abcdefghij")


def test_an_upload_that_breaks_off_changes_nothing(box: Box) -> None:
    box.put("whole", b"before")

    def broken() -> object:
        yield b"x" * MIB
        raise RuntimeError("the client's fault")

    with pytest.raises(RuntimeError):
        box.put("whole", broken())  # type: ignore[arg-type]
    assert box.get("whole").content == b"before"
    while any(".sbx-" in each["path"] for each in box.ok("GET", "/files?path=.")["entries"]):
        time.sleep(0.05)  # who wrote it hears of the end by and by


def test_append_and_offset_resume_an_upload(box: Box) -> None:
    box.put("parts", b"abc")
    box.put("parts", b"def", append="true")
    box.put("parts", b"XY", offset="1")
    assert box.get("parts").content == b"aXYdef"
    assert box.code("PUT", "/files/content?path=parts&append=true&offset=1", content=b"") == (
        "invalid_request"
    )


@pytest.mark.parametrize(
    "name", [b"line\nbreak", b"\x1b[2Jansi", b"sp ace", "ümlaut".encode(), b"no-utf8-\xff", b"-rf",
             b"%2e%2e", b"a?b&c=d#e"],
)  # fmt: skip
def test_names_of_any_bytes(box: Box, name: bytes) -> None:
    coded = {"path_base64": base64.b64encode(b"names/" + name).decode()}
    box.ok("PUT", "/files/content", params=coded, content=name)
    assert box.ok("GET", "/files/content", params=coded) == name
    (entry,) = [
        each
        for each in box.ok("GET", "/files", params={"path": "names"})["entries"]
        if base64.b64decode(each.get("path_base64", "")) == b"names/" + name
        or each["path"].encode() == b"names/" + name
    ]
    assert entry["size"] == len(name)
    box.ok("DELETE", "/files", params=coded)
    assert box.code("GET", "/files/stat", params=coded) == "path_not_found"


def test_what_is_no_regular_file_is_not_read(box: Box) -> None:
    box.sh("mkfifo fifo; ln -s /etc/passwd link; ln -s /work/nowhere dangling; mkdir -p dir; "
           "ln -s loop loop; truncate -s 4E sparse 2>/dev/null || truncate -s 1T sparse")  # fmt: skip
    assert box.code("GET", "/files/content?path=fifo") == "wrong_file_type"
    assert box.code("GET", "/files/content?path=dir") in ("wrong_file_type", "invalid_request")
    assert box.code("GET", "/files/content?path=/dev/zero") == "wrong_file_type"
    assert box.code("GET", "/files/content?path=dangling") == "path_not_found"
    assert box.code("GET", "/files/content?path=loop") in ("file_problem", "path_not_found")
    assert box.code("GET", "/files/content?path=/proc/1/environ") in (
        "path_denied",
        "path_not_found",
    )
    # Links lead within the sandbox: this is its own passwd, not the host's.
    assert box.get("link").content == box.sh("cat /etc/passwd").encode()
    part = box.get("sparse", Range="bytes=1000000-1000009")
    assert part.content == bytes(10)


def test_a_name_that_changes_its_kind_yields_one_honest_file_or_an_error(box: Box) -> None:
    flip = (
        "import os\nos.mkdir('r'); os.chdir('r'); open('a','w').write('A'*9)\nos.mkfifo('q')\n"
        "os.symlink('/etc/shadow','b'); os.symlink('/dev/zero','d'); os.symlink('a','e')\n"
        "while True:\n for n in 'aqbde':\n  os.link(n,'t',follow_symlinks=False); os.rename('t','f')\n"
        "  try: os.unlink('t')\n  except OSError: pass"
    )
    process = box.start("python3", "-c", flip)
    seen: set[str] = set()
    end = time.monotonic() + WAIT
    while not {"A" * 9, "wrong_file_type"} <= seen and time.monotonic() < end:
        answer = box.get("r/f")
        seen.add(answer.text if answer.is_success else answer.json()["code"])
    box.ok("POST", f"/processes/{process}/signal", json={"signal": "KILL"})
    assert {"A" * 9, "wrong_file_type"} <= seen <= {
        "A" * 9, "wrong_file_type", "path_denied", "path_not_found", "file_problem",
    }  # fmt: skip


def test_of_a_million_entries_there_are_as_many_as_the_disk_holds(fresh: Box) -> None:
    script = (
        "import os\nos.mkdir('m'); os.chdir('m'); n = 0\n"
        "try:\n while n < 10**6: os.mknod(f'{n}'); n += 1\n"
        "except OSError as error: print(n, error.errno)"
    )
    made, number = map(int, fresh.run("python3", "-c", script)["stdout"].split())
    assert number == errno.ENOSPC and 10_000 < made < 20_000
    before = resident(fresh)
    seen, cursor = 0, None
    while True:
        query = {"path": "m", "limit": 10_000, **({"cursor": cursor} if cursor else {})}
        page = fresh.ok("GET", "/files", params=query)
        seen, cursor = seen + len(page["entries"]), page["next_cursor"]
        if cursor is None:
            break
    assert seen == made
    assert fresh.code("PUT", "/files/content?path=one-more", content=b"x") == "no_space"
    removed = fresh.ok("DELETE", "/files", params={"path": "m", "recursive": "true"})
    assert removed == {"entries": made + 1}
    fresh.put("one-more", b"x")
    assert resident(fresh) - before < 60 * MIB


def test_a_download_of_endless_size_ends_with_its_client(box: Box) -> None:
    box.sh("truncate -s 1T endless")
    with box.tenant.http.stream("GET", f"{box.path}/files/content?path=endless") as answer:
        assert next(answer.iter_raw())[:4] == bytes(4)
    assert box.sh("echo alive") == "alive\n"


@pytest.mark.parametrize("path", ["", "a\0b", "x" * 5000])
def test_paths_that_are_none(box: Box, path: str) -> None:
    answer = box.ask("GET", f"/files/stat?{urlencode({'path': path})}")
    assert (answer.status_code, answer.json()["field"]) == (422, "path")


def test_errors_have_their_codes(box: Box) -> None:
    box.put("there", b"x")
    code = box.code
    assert code("GET", "/files/stat?path=absent") == "path_not_found"
    assert code("PUT", "/files/content?path=/proc/nothing", content=b"") in (
        "path_denied", "path_not_found", "file_problem",
    )  # fmt: skip
    assert code("PUT", "/files/content?path=/sys/x", content=b"x") != "internal_error"
    move = {"source": "there", "target": "there2", "overwrite": False}
    box.put("there2", b"y")
    assert code("POST", "/files/move", json=move) == "path_exists"
    box.ok("POST", "/files/directory", json={"path": "full/of"})
    assert code("DELETE", "/files?path=full") in ("file_problem", "wrong_file_type", "path_exists")
    assert box.ok("DELETE", "/files?path=full&recursive=true") == {"entries": 2}
    assert code("GET", "/files/stat?path=x&colour=red") == "invalid_request"


def test_a_full_disk_is_told_and_survived(fresh: Box) -> None:
    answer = fresh.ask("PUT", "/files/content?path=huge", content=_zeros(400))
    assert (answer.status_code, answer.json()["code"]) == (507, "no_space")
    assert fresh.code("GET", "/files/stat?path=huge") == "path_not_found"
    assert fresh.sh("echo alive") == "alive\n"


def _zeros(count: int) -> object:
    for _ in range(count):
        yield bytes(MIB)


def test_many_small_files_in_one_request_and_pages_of_them(box: Box) -> None:
    files = [{"path": f"many/{n:04}", "text": str(n)} for n in range(500)]
    assert box.ok("POST", "/files/batch", json={"files": files})["files"] == 500
    assert box.get("many/0499").content == b"499"
    found, cursor = [], None
    while True:
        query = {"path": "many", "limit": "200", **({"cursor": cursor} if cursor else {})}
        page = box.ok("GET", "/files", params=query)
        found += [each["path"] for each in page["entries"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(found) == [f"many/{n:04}" for n in range(500)]


def test_directories_travel_as_tar(box: Box) -> None:
    box.sh(
        "mkdir -p tree/sub; echo a > tree/a; echo b > tree/sub/b; ln -s a tree/l; chmod 700 tree/a"
    )
    data = box.ok("GET", "/files/archive?path=tree")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert {"./a", "./sub/b", "./l"} <= set(archive.getnames())
        assert archive.getmember("./a").mode == 0o700
    assert box.ask("PUT", "/files/archive?path=again", content=data).status_code == 204
    assert box.sh("cat again/l again/sub/b") == "a\nb\n"
    assert box.code("GET", "/files/archive?path=tree/a") == "wrong_file_type"
    assert box.code("PUT", "/files/archive?path=bad", content=b"no tar " * 512) == "tar_failed"


def test_an_archive_of_hostile_names_stays_where_it_is_unpacked(box: Box) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name in ("../../../../tmp/up", "/tmp/absolute"):
            entry = tarfile.TarInfo(name)
            entry.size = 1
            archive.addfile(entry, io.BytesIO(b"x"))
    box.ask("PUT", "/files/archive?path=hostile", content=data.getvalue())
    # Whatever tar makes of them, it is this sandbox's own files, by its own user.
    assert box.sh("ls /tmp/up /tmp/absolute 2>&1 | grep -c 'No such' || true").strip() in "012"
    assert not os.path.exists("/tmp/up") and not os.path.exists("/tmp/absolute")


@pytest.mark.parametrize("kind", ["lines", "socket"])
def test_changes_are_told(box: Box, kind: str) -> None:
    box.ok("POST", "/files/directory", json={"path": f"seen-{kind}/deep"})
    path = f"{box.path}/files/watch?path=seen-{kind}"
    seen: list[dict[str, str]] = []

    def change() -> None:
        box.put(f"seen-{kind}/deep/put", b"atomic")
        box.sh(f"echo x > seen-{kind}/deep/new; mv seen-{kind}/deep/new seen-{kind}/old")

    def hear(document: str) -> bool:
        found = json.loads(document)
        if found["type"] == "watching":
            threading.Thread(target=change).start()
        seen.extend(found.get("events", []))
        return any(each["path"].endswith("old") for each in seen)

    if kind == "lines":
        with box.tenant.http.stream("GET", path) as answer:
            assert any(hear(line) for line in answer.iter_lines() if line)
    else:
        with box.tenant.socket(path) as socket:
            while not hear(str(socket.recv(timeout=10))):
                pass
    assert {"created", "moved_to"} <= {each["change"] for each in seen}
    put = [each["change"] for each in seen if each["path"].endswith("put")]
    assert put[0] == "moved_to" and set(put) <= {"moved_to", "modified"}, (
        "it is whole when it comes"
    )
    assert not [each for each in seen if ".sbx-" in each["path"]], "and what it was before is ours"


def test_signed_addresses(box: Box, served: object) -> None:
    box.put("signed", b"0123456789")
    url = box.ok("POST", "/files/sign", json={"path": "signed"})["url"]
    put = box.ok("POST", "/files/sign", json={"path": "signed", "method": "PUT"})["url"]
    brief = box.ok("POST", "/files/sign", json={"path": "signed", "expires_in": 0.2})["url"]
    with httpx.Client(base_url=box.tenant.service.url) as nobody:
        assert nobody.get(url).content == b"0123456789"
        assert nobody.get(url, headers={"Range": "bytes=1-2"}).content == b"12"
        assert nobody.put(put, content=b"new").status_code == 200
        assert nobody.get(url).content == b"new"
        time.sleep(0.25)
        middle = len(url) // 2
        forged = url[:middle] + ("A" if url[middle] != "A" else "B") + url[middle + 1 :]
        for method, bad in (("PUT", url), ("GET", put), ("GET", brief), ("GET", forged),
                            ("GET", "/v1/signed/AAAA"), ("GET", "/v1/signed/" + "A" * 9000)):  # fmt: skip
            answer = nobody.request(method, bad, content=b"z" if method == "PUT" else None)
            assert answer.status_code == 404, (method, bad[:40], answer.text)
        assert nobody.get(f"{box.path}/files/stat?path=signed").status_code == 401
