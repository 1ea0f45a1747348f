"""What the E2B adapter decides without a service: frames, tokens, signatures, paths, words."""

import base64
import hashlib
import io
import tarfile
import zlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from sandboxd.drivers.graph.builder.words import pairs
from sandboxd.errors import InvalidRequest, MalformedBody, NotFound, Unauthorized
from sandboxd.gateway.adapters.e2b import build_files, identity, paths, words
from sandboxd.gateway.adapters.e2b.build_files import context
from sandboxd.gateway.adapters.e2b.envelopes import (
    COMPRESSED,
    LAST,
    MESSAGE_MAX,
    Envelopes,
    envelope,
)
from sandboxd.gateway.adapters.e2b.errors import NotOffered
from sandboxd.gateway.adapters.e2b.images import build_id, parted
from sandboxd.gateway.adapters.e2b.process import _end
from sandboxd.gateway.adapters.e2b.recipe import Recipe, Step, dockerfile, hashes, quoted
from sandboxd.gateway.adapters.e2b.signatures import Issued, Signed, signed
from sandboxd.model.session import FileInfo, FileType, Process, ProcessState
from sandboxd.model.stored import ImageDetail

SANDBOX, OTHER = "sbx_" + "a" * 26, "sbx_" + "b" * 26
SECRET = b"s" * 32
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\n\r"))


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 64))
def test_messages_come_out_as_they_went_in_however_they_are_cut(
    messages: list[bytes], size: int
) -> None:
    wire = b"".join(envelope(message) for message in messages) + envelope(b"{}", LAST)
    decoder = Envelopes()
    found = [m for at in range(0, len(wire), size) for m in decoder.feed(wire[at : at + size])]
    decoder.finish()
    assert found == messages


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_refused(data: bytes) -> None:
    decoder = Envelopes()
    try:
        for message in decoder.feed(data):
            assert len(message) <= len(data)
        decoder.finish()
    except MalformedBody:
        return


@pytest.mark.parametrize("wire", [
    envelope(b"x", COMPRESSED), bytes([0]) + (MESSAGE_MAX + 1).to_bytes(4, "big"),
])  # fmt: skip
def test_what_is_compressed_or_too_long_is_refused_at_its_head(wire: bytes) -> None:
    with pytest.raises(MalformedBody):
        Envelopes().feed(wire)


def test_a_body_that_breaks_off_is_no_message() -> None:
    decoder = Envelopes()
    assert decoder.feed(envelope(b"whole") + b"\0\0") == [b"whole"]
    with pytest.raises(MalformedBody):
        decoder.finish()


@given(st.text(min_size=1, max_size=64))
def test_a_token_says_whose_it_is_and_opens_one_sandbox(tenant: str) -> None:
    try:
        tenant.encode()
    except UnicodeEncodeError:
        return
    token = identity.seal(SECRET, tenant, SANDBOX)
    assert identity.unseal(SECRET, token) == (tenant, SANDBOX)
    for secret, said in ((SECRET, token.replace(SANDBOX, OTHER)), (b"t" * 32, token)):
        with pytest.raises(Unauthorized):
            identity.unseal(secret, said)


@given(st.text(max_size=100))
def test_no_made_up_token_opens_anything(token: str) -> None:
    with pytest.raises(Unauthorized):
        identity.unseal(SECRET, token)


def test_a_token_with_another_tenants_name_is_worth_nothing() -> None:
    _, _, rest = identity.seal(SECRET, "ann", SANDBOX).partition(".")
    forged = base64.urlsafe_b64encode(b"bob").rstrip(b"=").decode() + "." + rest
    with pytest.raises(Unauthorized):
        identity.unseal(SECRET, forged)


@pytest.mark.parametrize("name", ["sbx-" + "a" * 26, SANDBOX])
def test_an_id_is_understood_with_hyphen_or_underscore(name: str) -> None:
    assert identity.meant(name) == SANDBOX
    assert identity.shown(SANDBOX) == "sbx-" + "a" * 26


@pytest.mark.parametrize(
    "name", ["", "a" * 26, "sbx-", "sbx-" + "A" * 26, "../etc", "sbx-" + "a" * 27]
)
def test_what_is_no_id_is_nowhere(name: str) -> None:
    with pytest.raises(NotFound, match="was not found"):
        identity.meant(name)


@pytest.mark.parametrize(("headers", "found"), [
    ({}, None),
    ({"host": "api.example.org"}, None),
    ({"e2b-sandbox-id": "x"}, ("x", 49983)),
    ({"e2b-sandbox-id": "x", "e2b-sandbox-port": "49999"}, ("x", 49999)),
    ({"e2b-sandbox-id": "x", "e2b-sandbox-port": "nine"}, ("x", 0)),
    ({"host": f"49983-sbx-{'a' * 26}.example.org:7070"}, ("sbx-" + "a" * 26, 49983)),
])  # fmt: skip
def test_headers_come_before_host_names(
    headers: dict[str, str], found: tuple[str, int] | None
) -> None:
    assert identity.named(Headers(headers)) == found


def _signature(path: str, operation: str, user: str, token: str, expires: str | None) -> str:
    said = f"{path}:{operation}:{user}:{token}" + (f":{expires}" if expires else "")
    return "v1_" + base64.b64encode(hashlib.sha256(said.encode()).digest()).rstrip(b"=").decode()


@given(TEXT, TEXT, st.none() | st.integers(0, 1 << 40).map(str))
def test_a_signature_is_good_for_what_was_signed_alone(
    path: str, user: str, expires: str | None
) -> None:
    made = _signature(path, "read", user, "token", expires)
    assert Signed("read", path, user, made, expires).first_of(["other", "token"]) == "token"
    assert Signed("write", path, user, made, expires).first_of(["token"]) is None
    assert Signed("read", path + "x", user, made, expires).first_of(["token"]) is None
    assert Signed("read", path, user, made, (expires or "") + "1").first_of(["token"]) is None
    assert Signed("read", path, user, made, expires).first_of(["other"]) is None


def test_a_signature_finds_its_sandbox_among_those_that_were_opened() -> None:
    issued = Issued()
    for name in (SANDBOX, OTHER):
        issued.add("ann", name, f"token of {name}")
    request = Signed(
        "read", "a", "", _signature("a", "read", "", f"token of {SANDBOX}", None), None
    )
    assert issued.target(request, None).sandbox == SANDBOX
    assert issued.target(request, SANDBOX).tenant == "ann"
    for sandbox in (OTHER, "sbx_" + "c" * 26):
        with pytest.raises(Unauthorized):
            issued.target(request, sandbox)
    with pytest.raises(Unauthorized):
        issued.target(Signed("read", "a", "", "v1_", None), None)


@pytest.mark.parametrize("expiration", ["1", "x", "9" * 20, "-1"])
def test_a_signature_that_is_over_is_none(expiration: str) -> None:
    with pytest.raises(Unauthorized):
        signed("GET", {"signature": "v1_x", "signature_expiration": expiration})


def test_only_reading_and_writing_are_signed() -> None:
    assert signed("DELETE", {"signature": "v1_x"}) is None
    assert signed("GET", {}) is None


@pytest.mark.parametrize(("given", "meant"), [
    ("", "/home/user"), ("~", "/home/user"), ("a", "/home/user/a"), ("~/a", "/home/user/a"),
    ("/a/../b", "/b"), ("../../etc", "/etc"), ("/", "/"), ("a/./b//c", "/home/user/a/b/c"),
])  # fmt: skip
def test_paths_begin_at_home(given: str, meant: str) -> None:
    assert paths.absolute(given, "user") == meant
    assert paths.absolute(given, "root") == meant.replace("/home/user", "/root")


@pytest.mark.parametrize("path", ["~eve/x", "a\0b", "x" * 5000])
def test_a_path_that_cannot_be_is_refused(path: str) -> None:
    with pytest.raises(InvalidRequest):
        paths.encoded(path, "user")


def test_a_link_is_told_as_one_with_its_targets_type() -> None:
    link = FileInfo(path="/a/l", type=FileType.SYMLINK, mode=0o777, target="d", uid=1000, gid=7)
    shown = paths.entry(link, FileInfo(path="/a/d", type=FileType.DIRECTORY))
    assert (shown["isSymlink"], shown["symlinkTarget"], shown["type"], shown["name"]) == (
        True, "d", "FILE_TYPE_DIRECTORY", "l",
    )  # fmt: skip
    assert (shown["permissions"], shown["owner"], shown["group"]) == ("lrwxrwxrwx", "user", "7")
    assert paths.entry(link)["type"] == "FILE_TYPE_SYMLINK"


def _network(**rules: object) -> words.Network:
    return msgspec.convert(rules, words.Network)


@pytest.mark.parametrize(("asked", "network", "wanted"), [
    (None, None, None), (True, None, True), (False, None, False),
    (None, _network(), None),
    (None, _network(denyOut=["0.0.0.0/0"]), False),
    (None, _network(denyOut=["0.0.0.0/0"], allowOut=["0.0.0.0/0"]), True),
    (True, _network(allow_internet_access=False), False),
])  # fmt: skip
def test_the_internet_is_wanted_or_not(
    asked: bool | None, network: words.Network | None, wanted: bool | None
) -> None:
    assert words.internet(asked, network) is wanted


@pytest.mark.parametrize("network", [
    _network(allowOut=["example.org"]), _network(denyOut=["10.0.0.0/8"]),
    _network(dnsServers=["1.1.1.1"]), _network(rules={"example.org": []}),
    _network(egressProxy={"address": "x"}), _network(maskRequestHost="x"),
])  # fmt: skip
def test_rules_of_ones_own_are_refused_never_ignored(network: words.Network) -> None:
    with pytest.raises(NotOffered):
        words.internet(None, network)


def test_what_only_e2b_knows_is_kept_out_of_its_sight() -> None:
    body = b'{"templateID": "mine", "metadata": {"a": "b"}, "autoPause": true, "envVars": {"HOME": "/x"}}'
    made = words.request(msgspec.json.decode(body, type=words.NewSandbox), None, "none", 300)
    assert (made.on_timeout, made.timeout, made.env["HOME"]) == ("pause", 300, "/x")
    assert set(made.metadata) == {"a", words.NOTES}
    wrong = msgspec.convert({"templateID": "x", "metadata": {words.NOTES: ""}}, words.NewSandbox)
    with pytest.raises(InvalidRequest):
        words.request(wrong, None, "none", 300)


@pytest.mark.parametrize(("env", "kept"), [(["PATH=/own"], True), (["A=b"], False)])
def test_an_images_own_path_is_left_to_it(env: list[str], kept: bool) -> None:
    image = ImageDetail(
        name="mine:default", digest="", created_at=None, size=0, env=env, workdir="", command=[],
        labels={words.CPUS: "2", words.MEMORY: "300"}, history=[],
    )  # fmt: skip
    made = words.request(
        msgspec.convert({"templateID": "mine"}, words.NewSandbox), image, "none", 9
    )
    assert ("PATH" not in made.env) is kept
    assert (made.image, made.limits.cpus, made.limits.memory) == ("mine:default", 2, 300 << 20)


@pytest.mark.parametrize(("name", "found"), [
    ("a", ("a", "default")), ("a:v1", ("a", "v1")), ("t/a", ("t/a", "default")),
    ("host:5000/a", ("host:5000/a", "default")), ("host:5000/a:v1", ("host:5000/a", "v1")),
])  # fmt: skip
def test_a_tag_is_what_comes_after_the_last_slash(name: str, found: tuple[str, str]) -> None:
    assert parted(name) == found


def test_the_id_of_a_build_is_a_uuid_of_its_image() -> None:
    assert build_id("sha256:" + "ab" * 32) == "abababab-abab-abab-abab-abababababab"


@given(TEXT.filter(bool))
def test_a_quoted_word_means_exactly_what_it_was(text: str) -> None:
    """Held against the builder's own reading."""
    assert pairs(f"NAME={quoted(text)}", {"x": "filled in"}) == [("NAME", text)]


def test_a_line_break_cannot_become_an_instruction() -> None:
    with pytest.raises(ValueError, match="line break"):
        quoted("a\nRUN b")


_ONE = "0" * 64


@pytest.mark.parametrize("step", [
    Step(type="ENV", args=["A B", "x"]), Step(type="ENV", args=["A"]),
    Step(type="ENV", args=["A", "x\ny"]),
    Step(type="USER", args=["root\nRUN x"]), Step(type="USER"), Step(type="RUN"),
    Step(type="RUN", args=["true", "a b"]), Step(type="WORKDIR", args=["/a\n"]),
    Step(type="COPY", args=["a"], files_hash=_ONE),
    Step(type="COPY", args=["a", "b", "eve;x"], files_hash=_ONE),
    Step(type="COPY", args=["a", "b", "", "999"], files_hash=_ONE),
])  # fmt: skip
def test_no_step_can_say_more_than_its_kind(step: Step) -> None:
    with pytest.raises(InvalidRequest, match="step 0"):
        dockerfile(Recipe(steps=[step]), "image", None, None)


def test_steps_run_as_who_they_say_and_the_next_as_before() -> None:
    steps = [
        Step(type="RUN", args=["a"]), Step(type="RUN", args=["b", "root"]),
        Step(type="USER", args=["root"]), Step(type="RUN", args=["c"]),
        Step(type="COPY", args=["x", "/y", "", "0644"], files_hash=_ONE),
    ]  # fmt: skip
    lines = dockerfile(Recipe(steps=steps), "image", 2, 512).splitlines()
    assert lines[0] == "FROM image"
    at = lines.index("USER user")
    assert lines[at + 1 :] == [
        'RUN ["/bin/bash", "-l", "-c", "a"]',
        "USER root", 'RUN ["/bin/bash", "-l", "-c", "b"]', "USER user",
        "USER root", 'RUN ["/bin/bash", "-l", "-c", "c"]',
        'COPY --chown=root --chmod=0644 "x" "/y"',
    ]  # fmt: skip


@pytest.mark.parametrize("recipe", [
    Recipe(start_cmd="x"), Recipe(ready_cmd="x"), Recipe(from_image_registry={"type": "registry"}),
    Recipe(steps=[Step(type="HEALTHCHECK")]),
])  # fmt: skip
def test_what_cannot_be_built_is_refused_never_left_out(recipe: Recipe) -> None:
    with pytest.raises(NotOffered):
        dockerfile(recipe, "image", None, None)


@pytest.mark.parametrize("name", [None, "", "../x", "A" * 64])
def test_files_of_a_copy_are_named_by_a_hash(name: str | None) -> None:
    with pytest.raises(InvalidRequest):
        hashes(Recipe(steps=[Step(type="COPY", args=["a", "b"], files_hash=name)]))


def _packed(files: dict[str, bytes], *, gzip: bool) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz" if gzip else "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


@settings(max_examples=50)
@given(
    st.lists(
        st.dictionaries(st.text("ab/", min_size=1, max_size=150), st.binary(max_size=2000)),
        max_size=4,
    )
)
def test_one_context_has_what_all_archives_had(parts: list[dict[str, bytes]]) -> None:
    """Long names and all: what a head says beyond its size is passed on as it is."""
    archives = [_packed(files, gzip=at % 2 == 0) for at, files in enumerate(parts)]
    whole = io.BytesIO(b"".join(context(archives)))
    found = {}
    with tarfile.open(fileobj=whole) as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            found[member.name] = content.read()
    # As one archive reads them: a slash at the end of a name goes.
    wanted = {}
    for packed in archives:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            for member in archive:
                content = archive.extractfile(member)
                assert content is not None
                wanted[member.name] = content.read()
    assert found == wanted


@given(st.binary(max_size=3000))
def test_what_is_no_archive_is_refused_or_passed_on_whole(data: bytes) -> None:
    try:
        found = b"".join(context([data]))
    except InvalidRequest:
        return
    assert len(found) % 512 == 0


@pytest.mark.parametrize("archive", [
    _packed({"a": b"x" * 600}, gzip=False)[:1000], _packed({"a": b"x" * 6000}, gzip=True)[:40] + b"??",
    b"\x80" * 512,
])  # fmt: skip
def test_an_archive_that_breaks_off_is_refused(archive: bytes) -> None:
    with pytest.raises(InvalidRequest):
        list(context([archive]))


def test_what_unpacks_to_too_much_is_refused_while_it_unpacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(build_files, "_UNPACKED_MAX", 8 << 20)
    bomb = zlib.compressobj(wbits=31)
    member = tarfile.TarInfo("x")
    member.size = 7 << 30
    packed = bomb.compress(member.tobuf())
    zeros = bytes(1 << 20)
    packed += b"".join(bomb.compress(zeros) for _ in range(16)) + bomb.flush()
    with pytest.raises(InvalidRequest, match="more than"):
        for piece in context([packed]):
            assert len(piece) <= 1 << 20


def _ended(**how: object) -> Process:
    return Process(
        id="prc", command=["x"], cwd="/", state=ProcessState.EXITED, started_at="", **how
    )  # type: ignore[arg-type]


def test_an_end_is_told_as_the_go_server_tells_it() -> None:
    assert _end(_ended(exit_code=0)) == {"exitCode": 0, "exited": True, "status": "exit status 0"}
    assert _end(_ended(exit_code=3))["error"] == "exit status 3"
    killed = _end(_ended(signal="SIGKILL"))
    assert (killed["exitCode"], killed["exited"], killed["error"]) == (-1, False, "signal: killed")
    with pytest.raises(TimeoutError):
        _end(_ended(signal="SIGKILL", timed_out=True))
