"""What the guard reads from strangers: names, TLS, HTTP; and what it may ask for."""

import ssl
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandboxd.drivers.network.guard.client_hello import NotTls, server_name
from sandboxd.drivers.network.guard.http_requests import NotHttp, Requests
from sandboxd.drivers.network.guard.messages import NameRule, Names, Open, Target
from sandboxd.drivers.network.guard.names import entropy, matches, plain, rules_for, smuggles
from sandboxd.model.egress import EgressPolicy, EgressRule
from sandboxd.node.network_guard import checked


def hello(name: str | None) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Example.ORG.", "example.org"),
        ("a-b.c_d.example", "a-b.c_d.example"),
        ("127.0.0.1", None),
        ("2130706433", None),
        ("0x7f.0.0.1", None),
        ("0177.0.0.1", None),
        ("[::1]", None),
        ("localhost", None),
        ("example.org..", None),
        (".example.org", None),
        ("exämple.org", None),
        ("\uff45xample.org", None),
        ("example.org\0.evil.org", None),
        ("example.org/", None),
        ("*.example.org", None),
        ("a" * 64 + ".org", None),
        ("", None),
    ],
)
def test_names_have_one_form(text: str, form: str | None) -> None:
    assert plain(text) == form


@pytest.mark.parametrize(
    ("domain", "name", "covered"),
    [
        ("example.org", "example.org", True),
        ("example.org", "www.example.org", False),
        ("example.org", "xexample.org", False),
        ("example.org", "example.org.evil.net", False),
        ("*.example.org", "www.example.org", True),
        ("*.example.org", "a.b.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "xexample.org", False),
    ],
)
def test_rules_cover_whole_labels(domain: str, name: str, covered: bool) -> None:
    assert matches(domain, name) == covered


def test_deny_wins_over_allow() -> None:
    rule = NameRule("*.example.org", "tcp", (443,), False)
    names = Names(allow=(rule,), deny=("bad.example.org",), deny_nets=(), resolve=False)
    assert list(rules_for(names, "good.example.org")) == [rule]
    assert not list(rules_for(names, "bad.example.org"))


@pytest.mark.parametrize(
    "label", ["www", "static-assets-production-eu", "s3-accesspoint-dualstack"]
)
def test_usual_labels_are_no_messages(label: str) -> None:
    assert not smuggles(NameRule("*.example.org", "tcp", (443,), False), f"{label}.example.org")


@given(st.binary(min_size=24, max_size=36))
def test_encoded_bytes_are(data: bytes) -> None:
    label = data.hex()[:60]
    rule = NameRule("*.example.org", "tcp", (443,), False)
    assert smuggles(rule, f"{label}.example.org") == (entropy(label) > 3.5)
    assert not smuggles(NameRule("x.example.org", "tcp", (443,), False), "x.example.org")


HELLO = hello("one.example.org")


@settings(deadline=None)  # a busy machine may be slow
@given(st.integers(0, 2_000))
def test_a_server_name_is_read_once_it_is_there(cut: int) -> None:
    whole = HELLO
    assert server_name(whole) == "one.example.org"
    assert server_name(whole[:cut]) == (None if cut < len(whole) else "one.example.org")


def test_a_hello_without_name_names_nothing() -> None:
    assert server_name(hello(None)) == ""


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_make_the_reader_of_tls_fail(data: bytes) -> None:
    for start in (b"", b"\x16\x03\x01", HELLO[:90]):
        try:
            name = server_name(start + data)
        except NotTls:
            continue
        assert name is None or isinstance(name, str)


GET = b"GET /%d HTTP/1.1\r\nHost: one.example.org:80\r\nX: y\r\n\r\n"
BODY = b"GET / HTTP/1.1\r\nHost: three.example.org\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: two.example.org\r\nContent-Length: %d\r\n\r\n" % len(BODY)


@given(st.lists(st.integers(1, 40), max_size=20))
def test_requests_pass_whole_and_are_read_alike_however_they_come(cuts: list[int]) -> None:
    stream = GET % 1 + POST + BODY + GET % 2
    requests, sent, at = Requests(), b"", 0
    for size in [*cuts, len(stream)]:
        sent += requests.feed(stream[at : at + size])
        at += size
        assert stream.startswith(sent)
        assert b"two.example.org" not in sent or "two.example.org" in requests.hosts
    assert sent == stream
    assert requests.hosts == ["one.example.org", "two.example.org"]


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n",
        b"GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a.example\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        *(
            b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host
            for host in (
                b"b.example@a.example",
                b"a.example:80@b.example",
                b"a.example/b.example",
                b"a.example?b",
                b"a.example#b",
                b"a.example\\b.example",
                b"a.exa\tmple",
                b"a.example:x",
                b"a.example b.example",
                b"a.example,b.example",
                b"",
            )
        ),
        b"GET http://b.example@a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET a.example HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: h2c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Upgrade: h2c\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\n\r\nx"
        b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"EHLO a.example\r\n",
        b"GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nearly",
    ],
)
def test_requests_that_two_readers_might_take_differently_are_refused(head: bytes) -> None:
    with pytest.raises(NotHttp):
        Requests().feed(head)


def test_an_upgrade_waits_for_the_server() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
    requests = Requests()
    assert requests.feed(head) == head
    assert not requests.settled.is_set()
    with pytest.raises(NotHttp):
        requests.answered(b"HTTP/1.1 200 OK\r\n")
    requests.answered(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert requests.settled.is_set()
    assert requests.feed(b"\x81\x00") == b"\x81\x00"


@given(st.lists(st.integers(1, 60), max_size=12))
def test_offers_to_speak_http2_do_not_go_on(cuts: list[int]) -> None:
    line = b"POST / HTTP/1.1\r\nHost: a.example\r\n"
    offer = b"Upgrade: h2c\r\nHTTP2-Settings: AA\r\n"
    rest = b"Connection: upgrade, http2-settings\r\nContent-Length: %d\r\n\r\n" % len(offer)
    stream = (line + offer + rest + offer) * 2
    requests, sent, at = Requests(), b"", 0
    for size in cuts:
        sent += requests.feed(stream[at : at + size][: max(0, len(stream) // 2 - at)])
        at = min(at + size, len(stream) // 2)
    sent += requests.feed(stream[at : len(stream) // 2])
    sent += requests.feed(stream[len(stream) // 2 :])
    assert sent == (line + rest + offer) * 2, "bodies are as they were"
    assert requests.settled.is_set()


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_of_http_fail(data: bytes) -> None:
    for start in (b"", GET % 1, b"POST / HTTP/1.1\r\nHost: a.example\r\n"):
        with suppress(NotHttp):
            Requests().feed(start + data)


POLICY = EgressPolicy(
    name="a", allow=[EgressRule(domain="example.org"), EgressRule(cidr="198.51.100.0/24")]
)


@pytest.mark.parametrize(
    "target",
    [
        Target("tcp", 22, "198.51.100.1", 60, True),
        Target("tcp", 443, "198.51.100.1", 60, False),
        Target("udp", 443, "198.51.100.1", 60, True),
        Target("tcp", 443, "2600::1", 60, True),
        Target("tcp", 443, "elsewhere", 60, True),
    ],
)
def test_the_guard_gets_no_more_than_the_policy_has(target: Target) -> None:
    good = Target("tcp", 443, "198.51.100.1", 60, True)
    assert len(checked(Open(1, "10.213.0.16", (good,)), POLICY)) == 1
    with pytest.raises(ValueError):
        checked(Open(1, "10.213.0.16", (good, target)), POLICY)
