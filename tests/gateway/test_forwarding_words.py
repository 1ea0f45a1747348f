"""What the way to a server in a sandbox is decided by: names, tokens, header fields. No socket."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from sandboxd.errors import InvalidRequest
from sandboxd.gateway.api import sandbox_signed
from sandboxd.gateway.forwarding import headers, names, tokens
from sandboxd.gateway.forwarding.errors import BadAnswer
from sandboxd.gateway.forwarding.headers import Client, Target
from sandboxd.gateway.forwarding.names import Place
from sandboxd.gateway.forwarding.tokens import Grant
from sandboxd.settings import SettingsError

BOX = "sbx_" + "a2" * 13
PLACE = Place(BOX, 8000)
GRANT = Grant("ann", BOX, 8000, 100.0)
CLIENT = Client(
    address="192.0.2.7", scheme="http", host="h.example", trusted=False, secret_authorization=False
)
TARGET = Target(tenant="ann", place=PLACE, path=b"/", host="h.example", own_origin=True,
                client=CLIENT)  # fmt: skip
FIELD = st.tuples(
    st.sampled_from([b"x-a", b"connection", b"te", b"cookie", b"x-forwarded-for", b"host", b"upgrade",
                     b"content-length", b"sec-websocket-key", b"forwarded", b"expect"]),
    st.text(string.ascii_letters + string.digits + ",; =-", max_size=20).map(str.encode),
)  # fmt: skip


def _site(url: str = "http://Boxes.example:7070") -> names.Site:
    found = names.site(url)
    assert found is not None
    return found


def test_a_name_leads_to_the_port_that_it_was_made_of() -> None:
    site = _site()
    assert site.origin(PLACE) == f"http://8000-sbx-{'a2' * 13}.boxes.example:7070"
    host = site.origin(PLACE).removeprefix("http://")
    for form in (host, host.upper(), host.replace("sbx-", "sbx_"), host.replace(":7070", "."),
                 host.replace(":7070", ":1")):  # fmt: skip
        assert site.place(form) == PLACE, form


@pytest.mark.parametrize(
    "label",
    ["0-{}", "65536-{}", "080-{}", "80{}", "-{}", "80-{}x", "80-x{}", "80-{}.", "x.80-{}", "80 -{}",
     "80-" + BOX[:-1] + "1", ""],
)  # fmt: skip
def test_what_is_no_name_of_a_port_is_none(label: str) -> None:
    assert _site().place(label.replace("{}", BOX) + ".boxes.example") is None
    assert _site().place(f"80-{BOX}.boxes.example.evil") is None
    assert _site().place(f"80-{BOX}.evilboxes.example") is None


@pytest.mark.parametrize(
    "url",
    ["boxes.example", "ftp://boxes.example", "http://", "http://192.0.2.1", "http://[::1]:80",
     "http://a_b.example", "http://boxes.example/x", "http://boxes.example:x", "http://.example"],
)  # fmt: skip
def test_a_url_that_names_no_domain_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="ports_url"):
        names.site(url)


def test_a_token_opens_until_it_expires() -> None:
    text = tokens.seal(b"s", GRANT)
    assert tokens.unseal(b"s", text, 99.0) == GRANT
    assert tokens.unseal(b"s", text, 100.1) is None
    assert tokens.unseal(b"other", text, 99.0) is None


@given(at=st.integers(0, 200), value=st.integers(0, 255))
def test_a_token_that_was_changed_is_none(at: int, value: int) -> None:
    text = bytearray(tokens.seal(b"s", GRANT).encode())
    text[at % len(text)] = value
    changed = text.decode("latin-1")
    found = tokens.unseal(b"s", changed, 99.0)
    # Bits that base64 does not use may differ; what is signed may not.
    assert found is None or found == GRANT


@given(st.text(max_size=200))
def test_no_text_is_taken_for_a_token(text: str) -> None:
    assert tokens.unseal(b"s", text, 0.0) is None


def test_signed_file_addresses_are_no_tokens_of_ports() -> None:
    file = sandbox_signed.seal(b"s", sandbox_signed.Grant("ann", BOX, b"/x", "GET", 100.0))
    assert tokens.unseal(b"s", file, 0.0) is None


@pytest.mark.parametrize(
    ("query", "left"),
    [(b"", b""), (b"a=1&b=%2F&&c", b"a=1&b=%2F&&c"), (b"sandboxd-token=x", b""),
     (b"a=%c3&sandboxd-token=x&b", b"a=%c3&b"), (b"sandboxd-tokens=x", b"sandboxd-tokens=x")],
)  # fmt: skip
def test_the_token_goes_out_of_the_query_and_nothing_else(query: bytes, left: bytes) -> None:
    assert tokens.without(query) == left


def test_a_cookie_only_counts_for_the_ports_own_pages_and_for_those_who_go_there() -> None:
    cookie = {"host": "a.example", "cookie": "x=1; sandboxd-token=T"}
    for more, counts in (
        ({}, True),
        ({"origin": "http://a.example"}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"}, True),
        ({"origin": "http://b.example"}, False),
        ({"origin": "null"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, False),
        (
            {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate", "origin": "http://b"},
            False,
        ),
    ):
        assert tokens.shown(Headers({**cookie, **more}), b"") == (["T"] if counts else []), more
    assert tokens.shown(Headers({"x-sandboxd-token": "H"}), b"sandboxd-token=Q") == ["H", "Q"]


@given(st.lists(FIELD, max_size=12))
def test_nothing_that_is_for_one_hop_or_is_ours_passes(fields: headers.Fields) -> None:
    passed = headers.request(fields, TARGET, chunked=False)
    count: dict[bytes, int] = {}
    for name, _ in passed:
        count[name.lower()] = count.get(name.lower(), 0) + 1
    assert count[b"host"] == count[b"x-forwarded-for"] == 1
    assert not {b"connection", b"te", b"upgrade", b"forwarded", b"expect"} & set(count)
    assert not [name for name in count if name.startswith(b"sec-websocket")]
    assert dict(passed)[b"x-forwarded-for"] == b"192.0.2.7"


def test_what_a_client_says_of_itself_counts_from_this_machine_alone() -> None:
    said = [(b"x-forwarded-for", b"198.51.100.1"), (b"x-forwarded-proto", b"https"),
            (b"x-forwarded-host", b"other.example"), (b"forwarded", b"for=1")]  # fmt: skip
    near = Target(tenant="ann", place=PLACE, path=b"/", host="h.example", client=Client(
        address="127.0.0.1", scheme="http", host="h.example", trusted=True,
        secret_authorization=False,
    ))  # fmt: skip
    far, own = (dict(headers.request(said, each, chunked=False)) for each in (TARGET, near))
    assert far[b"x-forwarded-for"] == b"192.0.2.7" and far[b"x-forwarded-proto"] == b"http"
    assert own[b"x-forwarded-for"] == b"198.51.100.1, 127.0.0.1"
    assert own[b"x-forwarded-proto"] == b"https"
    assert far[b"x-forwarded-host"] == own[b"x-forwarded-host"] == b"h.example"


def test_connection_names_what_is_dropped_but_not_what_a_message_means() -> None:
    given = [(b"connection", b"close, X-Mine, content-length, Cookie"), (b"x-mine", b"1"),
             (b"content-length", b"2"), (b"cookie", b"a=b")]  # fmt: skip
    passed = dict(headers.request(given, TARGET, chunked=False))
    assert b"x-mine" not in passed
    assert passed[b"content-length"] == b"2" and passed[b"cookie"] == b"a=b"


def test_answers_on_a_shared_host_are_confined() -> None:
    given = [(b"set-cookie", b"a=b"), (b"strict-transport-security", b"max-age=1"), (b"x", b"y"),
             (b"content-security-policy", b"default-src *")]  # fmt: skip
    shared = headers.response(given, 200, own_origin=False)
    names_ = [name for name, _ in shared]
    assert b"set-cookie" not in names_ and b"strict-transport-security" not in names_
    policies = [value for name, value in shared if name == b"content-security-policy"]
    assert policies[0] == b"default-src *" and policies[1].startswith(b"sandbox ")
    assert b"allow-same-origin" not in policies[1]
    assert headers.response(given, 200, own_origin=True) == given


def test_control_characters_are_nobodys() -> None:
    for value in (b"a\x01b", b"a\x7f", b"a\0", b"a\rb"):
        with pytest.raises(InvalidRequest):
            headers.request([(b"x", value)], TARGET, chunked=False)
        with pytest.raises(BadAnswer):
            headers.response([(b"x", value)], 200, own_origin=True)
    with pytest.raises(BadAnswer):
        headers.response([(b"x", b"y")] * 300, 200, own_origin=True)
