"""Policies by name: who is answered, what an answer opens, and what has to be said on the way there."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.network.serving import printed, run, serving
from tests.network.world import OTHER4, PUBLIC4, PUBLIC6, World
from tests.service import host
from tests.service.instance import Service

pytestmark = [pytest.mark.root, pytest.mark.service]

NAMED = """
[[allow]]
domain = "one.example.org"
ports = [80, 443]
[[allow]]
domain = "*.wild.example.org"
ports = [80, 443]
[[deny]]
domain = "bad.wild.example.org"
[[allow]]
domain = "data.example.org"
ports = [8000]
opaque = true
[[allow]]
domain = "rebind.example.org"
[[allow]]
domain = "alias.example.org"
"""
ZONE = {
    ("one.example.org", "A"): [PUBLIC4],
    ("one.example.org", "AAAA"): [PUBLIC6],
    ("deep.a.wild.example.org", "A"): [PUBLIC4],
    ("bad.wild.example.org", "A"): [PUBLIC4],
    ("wild.example.org", "A"): [PUBLIC4],
    ("data.example.org", "A"): [PUBLIC4],
    ("other.example.net", "A"): [OTHER4],
    ("one.example.org.evil.example.net", "A"): [OTHER4],
    ("rebind.example.org", "A"): [PUBLIC4, "10.1.2.3"],
    ("rebind.example.org", "AAAA"): ["::ffff:10.1.2.3"],
    ("alias.example.org", "CNAME"): ["inner.example.net"],
    ("inner.example.net", "A"): ["169.254.169.254"],
}
PROGRAM = r"""
import json, socket, ssl, sys

def lookup(name, family=socket.AF_INET):
    try:
        return sorted({entry[4][0] for entry in socket.getaddrinfo(name, 80, family, socket.SOCK_STREAM)})
    except OSError as error:
        return type(error).__name__

def hello(name):
    context = ssl.create_default_context()
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()

def say(address, port, *parts):
    # What comes back, as text; '' where the connection is refused or cut.
    try:
        got = b""
        with socket.create_connection((address, port), 3) as connection:
            for part in parts:
                connection.sendall(part)
                want = len(part)
                while want > 0:
                    data = connection.recv(65536)
                    if not data:
                        return got.decode("latin-1")
                    got, want = got + data, want - len(data)
        return got.decode("latin-1")
    except OSError as error:
        return got.decode("latin-1")

def get(host, path="/", extra=""):
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n".encode()

def ask(server, name, kind=1, protocol="udp", timeout=1):
    # One raw question; the response code, or the kind of failure.
    import struct
    body = struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0)
    body += b"".join(bytes([len(label)]) + label for label in name.encode().split(b".")) + b"\0"
    body += struct.pack("!HH", kind, 1)
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    try:
        if protocol == "udp":
            with socket.socket(family, socket.SOCK_DGRAM) as asking:
                asking.settimeout(timeout)
                asking.connect((server, 53))
                asking.send(body)
                answer = asking.recv(4096)
        else:
            with socket.create_connection((server, 53), timeout) as asking:
                asking.sendall(struct.pack("!H", len(body)) + body)
                answer = asking.recv(4096)[2:]
    except OSError as error:
        return type(error).__name__
    return [answer[3] & 15, struct.unpack("!H", answer[6:8])[0]]

print(json.dumps(eval(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def served(world: World) -> Iterator[Service]:
    world.names = ZONE
    with serving({"named": NAMED, "byaddress": f'[[allow]]\ncidr = "{PUBLIC4}"\n'}) as service:
        yield service


def look(served: Service, expression: str, network: str = "named") -> Any:
    return printed(served, PROGRAM, expression, network=network)


def test_only_allowed_names_are_answered(world: World, served: Service) -> None:
    names = [
        "one.example.org", "ONE.Example.ORG", "one.example.org.", "deep.a.wild.example.org",
        "wild.example.org", "bad.wild.example.org", "other.example.net", "example.org",
        "xone.example.org", "one.example.org.evil.example.net", "one.example.org\\000.example.net",
    ]  # fmt: skip
    world.asked.clear()
    found = look(served, f"[lookup(name) for name in {names!r}]")
    assert found == [[PUBLIC4]] * 4 + ["gaierror"] * 7
    assert {name for name, _ in world.asked} <= {"one.example.org", "deep.a.wild.example.org"}


def test_ipv6_names_are_answered(served: Service) -> None:
    assert look(served, 'lookup("one.example.org", socket.AF_INET6)') == [PUBLIC6]


def test_answers_that_lead_into_the_floor_are_withheld(world: World, served: Service) -> None:
    world.packets.clear()
    names = [("rebind.example.org", 4), ("rebind.example.org", 6), ("alias.example.org", 4)]
    families = {4: "socket.AF_INET", 6: "socket.AF_INET6"}
    for name, family in names:
        assert look(served, f"lookup({name!r}, {families[family]})") == "gaierror"
    assert not world.arrived("10.1.2.3") and not world.arrived("169.254.169.254")


def test_no_other_resolver_is_reached(world: World, served: Service) -> None:
    world.packets.clear()
    servers = ["198.51.100.53", PUBLIC4, "2600:db8::10"]
    answers = look(
        served,
        f"[ask(server, 'one.example.org', protocol=p, timeout=0.3) for server in {servers!r} "
        "for p in ('udp', 'tcp')]",
    )
    assert all(isinstance(answer, str) for answer in answers), answers
    assert not any(world.arrived(server, source="192.0.2.2") for server in servers[1:])


def test_other_types_have_no_data_and_a_policy_by_address_no_resolver(served: Service) -> None:
    router = "10.213.0.1"
    assert look(served, f"ask({router!r}, 'one.example.org', 65)") == [0, 0]  # HTTPS
    assert look(served, f"ask({router!r}, 'one.example.org', 16)") == [0, 0]  # TXT
    assert look(served, f"ask({router!r}, 'one.example.org', 1, 'tcp')") == [0, 1]
    refused = look(served, f"ask({router!r}, 'one.example.org', timeout=0.3)", "byaddress")
    assert isinstance(refused, str)


def test_labels_that_look_like_data_are_not_asked_for(world: World, served: Service) -> None:
    world.asked.clear()
    data = "mzxw6ytboi4dsnjqgq2tmnbzgu2dcmjsgi"
    assert look(served, f"lookup('{data}.wild.example.org')") == "gaierror"
    assert look(served, f"lookup('{'a' * 60}.{'b' * 60}.wild.example.org')") == "gaierror"
    assert not world.asked


@pytest.mark.parametrize("address", [PUBLIC4, PUBLIC6])
def test_tls_must_ask_for_an_allowed_name(world: World, served: Service, address: str) -> None:
    family = "socket.AF_INET6" if ":" in address else "socket.AF_INET"
    open_it = f"lookup('one.example.org', {family})"
    world.said.clear()
    answers = look(
        served,
        f"[{open_it}] + [len(say({address!r}, 443, hello(name))) for name in "
        "('one.example.org', 'ONE.example.org', 'other.example.net', 'bad.wild.example.org', None)]",
    )
    assert answers[0] == [address]
    assert [bool(length) for length in answers[1:]] == [True, True, False, False, False]
    assert len(world.said) == 2
    assert all(port == 443 and data[:1] == b"\x16" for _, port, data in world.said)


def test_a_hello_in_pieces_is_read_whole(served: Service) -> None:
    said = look(
        served,
        "(lookup('one.example.org'), len(say('" + PUBLIC4 + "', 443, hello('one.example.org'))), "
        "[say('" + PUBLIC4 + "', 443, hello('other.example.net')[:n]) for n in (1, 5, 60)])",
    )
    assert said[1] > 100 and said[2] == ["", "", ""]


def test_http_must_ask_for_an_allowed_host_every_time(world: World, served: Service) -> None:
    good, bad = "get('one.example.org', '/good')", "get('other.example.net', '/bad')"
    cases = {
        good: True,
        f"{good}, {good}": True,
        bad: False,
        f"{good} + {bad}": False,
        f"{good} + {bad} + {good}": False,
        "get('10.1.2.3')": False,
        "get('one.example.org', extra='Host: other.example.net\\r\\n')": False,
        "get('one.example.org', 'http://other.example.net/bad')": False,
        "b'CONNECT other.example.net:443 HTTP/1.1\\r\\nHost: one.example.org\\r\\n\\r\\n'": False,
        "b'SSH-2.0-x\\r\\n'": False,
        "b'\\0\\1\\2'": False,
    }
    for parts, through in cases.items():
        world.said.clear()
        answer = look(served, f"(lookup('one.example.org'), say({PUBLIC4!r}, 80, {parts}))[1]")
        assert bool(answer) == through, parts
        assert bool(world.said) == through, parts
    answer = look(served, f"(lookup('one.example.org'), say({PUBLIC4!r}, 80, {good}, {bad}))[1]")
    assert "/good" in answer and "/bad" not in answer
    assert not any(b"/bad" in data for _, _, data in world.said)


METADATA = "169.254.169.254"
FORMS = (
    "2852039166", "0251.0376.0251.0376", "0xa9.0xfe.0xa9.0xfe", "0xa9fea9fe", "169.254.43518",
    "169.16689662", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254",
)  # fmt: skip
"""Of that address, as various programs read them."""


def test_an_address_in_another_form_is_the_address_that_it_is(
    world: World, served: Service
) -> None:
    """Decimal, octal, hexadecimal, short; asked for as a name, aimed at, and given as Host and to TLS."""
    router = "10.213.0.1"
    world.packets.clear()
    world.said.clear()
    world.asked.clear()
    aimed = look(served, f"[say(form, 80, get(form)) for form in {FORMS!r}]")
    assert set(aimed) == {""}
    assert not world.arrived(METADATA) and not world.arrived("64:ff9b::a9fe:a9fe")
    named = look(
        served,
        f"[ask({router!r}, form)[1] for form in {FORMS!r} if ':' not in form] + "
        f"[lookup('one.example.org')] + [say({PUBLIC4!r}, 80, get(form)) for form in {FORMS!r}] + "
        f"[say({PUBLIC4!r}, 443, hello(form)) for form in {FORMS!r} if ':' not in form]",
    )
    opened = named.index([PUBLIC4])
    assert set(named[:opened]) == {0} and set(named[opened + 1 :]) == {""}
    assert not world.said
    assert {name for name, _ in world.asked} <= {"one.example.org"}


def test_names_of_other_alphabets_are_those_that_they_are_written_as(
    world: World, served: Service
) -> None:
    """What looks like an allowed name is another one; raw bytes are none; the same name in capitals, or
    with its last dot, is itself."""
    router, twin = "10.213.0.1", "\u043ene.example.org"  # begins with the Cyrillic letter
    idn = "xn--bcher-kva.wild.example.org"
    world.names = {
        **ZONE, (idn, "A"): [PUBLIC4], (twin.encode("idna").decode(), "A"): [PUBLIC4],
    }  # fmt: skip
    world.said.clear()
    world.asked.clear()
    found = look(
        served,
        f"[lookup('b\u00fccher.wild.example.org'), lookup({idn!r}), lookup({twin!r}), "
        f"ask({router!r}, {twin!r})[1], ask({router!r}, 'b\u00fccher.wild.example.org')[1], "
        f"lookup({twin.encode('idna').decode()!r})]",
    )
    assert found == [[PUBLIC4], [PUBLIC4], "gaierror", 0, 0, "gaierror"]
    assert {name for name, _ in world.asked} <= {idn}
    hosts = {
        "ONE.Example.ORG": True, "one.example.org.": True, "one.example.org..": False,
        twin.encode("idna").decode(): False, "xone.example.org": False,
        "one.example.org.evil.example.net": False, "example.org": False,
    }  # fmt: skip
    answers = look(
        served,
        f"[lookup('one.example.org')] + [bool(say({PUBLIC4!r}, 80, get(host))) for host in "
        f"{list(hosts)!r}]",
    )
    assert dict(zip(hosts, answers[1:], strict=True)) == hosts
    world.names = ZONE


def test_an_address_is_open_only_to_who_was_answered(world: World, served: Service) -> None:
    world.packets.clear()
    hello = f"say({PUBLIC4!r}, 443, hello('one.example.org'))"
    assert look(served, hello) == ""
    assert not world.arrived(PUBLIC4)
    assert look(served, f"len((lookup('one.example.org'), {hello})[1])") > 100


def test_opaque_names_open_their_port_to_anything(world: World, served: Service) -> None:
    words = f"say({PUBLIC4!r}, 8000, b'anything')"
    assert look(served, words) == ""
    assert look(served, f"(lookup('data.example.org'), {words})[1]") == "anything"
    assert look(served, f"(lookup('data.example.org'), say({PUBLIC4!r}, 8080, b'x'))[1]") == ""


def test_where_a_name_leads_is_decided_on_the_host(world: World, served: Service) -> None:
    """The sandbox aims at the address of one name and asks for another that it may have."""
    world.names = {**ZONE, ("moved.wild.example.org", "A"): [OTHER4]}
    world.said.clear()
    answer = look(
        served,
        f"(lookup('one.example.org'), say({PUBLIC4!r}, 443, hello('moved.wild.example.org')))[1]",
    )
    assert answer
    assert [address for address, _, _ in world.said] == [OTHER4]


def test_the_guard_comes_back_and_goes_on(world: World, served: Service) -> None:
    node = served.role("node")
    assert node is not None
    guard = next(pid for pid in host.descendants(node) if "network" in (host.argv(pid) or []))
    os.kill(guard, signal.SIGKILL)
    time.sleep(0.2)
    assert look(served, "lookup('one.example.org')") == [PUBLIC4]


def test_names_and_connections_are_in_the_result(world: World, served: Service) -> None:
    expression = (
        f"(lookup('one.example.org'), lookup('other.example.net'), "
        f"say({PUBLIC4!r}, 443, hello('one.example.org')), "
        f"say({PUBLIC4!r}, 443, hello('other.example.net')))"
    )
    result = run(served, PROGRAM, expression, network="named")
    found = [
        (record["kind"], record["verdict"], record.get("name", ""), record.get("port", 0))
        for record in result["network"]["records"]
    ]
    assert ("name", "allowed", "one.example.org", 0) in found
    assert ("name", "no rule names it", "other.example.net", 0) in found
    assert ("connection", "allowed", "one.example.org", 443) in found
    assert ("connection", "no rule names it", "other.example.net", 443) in found
    passed = next(
        record
        for record in result["network"]["records"]
        if record["kind"] == "connection" and record["verdict"] == "allowed"
    )
    assert passed["sent"] > 100 and passed["received"] > 100
