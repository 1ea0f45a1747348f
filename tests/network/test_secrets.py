"""Secrets at the boundary: the host gets them, the sandbox never does, and nobody else is touched."""

import datetime
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec.structs import replace
from sandboxd_client import Client, Sandbox

from sandboxd.errors import SandboxdError
from sandboxd.model.egress import Attachment, EgressPolicy, EgressRule
from sandboxd.node.network_boundary import Boundary
from sandboxd.settings import NetworkSettings, SettingsError
from tests.network.serving import hang_up, printed, run, serving
from tests.network.world import PUBLIC4, World
from tests.patience import PATIENCE
from tests.service.instance import Service

pytestmark = [pytest.mark.root, pytest.mark.service]

PORT = 8443
SECRET = "s3cret-of-the-operator"
_POLICY = f"""
[[allow]]
domain = "api.example.org"
ports = [{PORT}]
[[allow]]
domain = "plain.example.org"
ports = [{PORT}]
[[attach]]
domain = "api.example.org"
secret = "api"
[[attach]]
domain = "api.example.org"
header = "X-Team"
secret = "team"
value = "team-{{}}"
"""
_PROGRAM = r"""
import hashlib, http.client, json, os, socket, ssl, subprocess, sys, urllib.request
NAME, PORT = "api.example.org", 8443

def fetch(body=None, **headers):
    request = urllib.request.Request(f"https://{NAME}:{PORT}/path?q=1", body, headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)

def several(count):
    line = http.client.HTTPSConnection(NAME, PORT, timeout=5)
    found = []
    for number in range(count):
        line.request("POST", f"/{number}", iter([b"a" * 70000, b"b"]), {"Authorization": "x"},
                     encode_chunked=True)
        found.append(json.load(line.getresponse()))
    return found

def raw(data, name=NAME):
    context = ssl.create_default_context()
    with socket.create_connection((name, PORT), 5) as line:
        with context.wrap_socket(line, server_hostname=name) as tls:
            tls.sendall(data)
            got = b""
            try:
                while more := tls.recv(65536):
                    got += more
            except OSError:
                pass
    return got.decode()

def certificate(name):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((name, PORT), 5) as line:
        with context.wrap_socket(line, server_hostname=name) as tls:
            return hashlib.sha256(tls.getpeercert(True)).hexdigest()

def trusted(name):
    context = ssl.create_default_context()
    try:
        with socket.create_connection((name, PORT), 5) as line:
            context.wrap_socket(line, server_hostname=name).close()
        return True
    except ssl.SSLCertVerificationError:
        return False

def everything():
    # All that this user can read of what is not the image's.
    found = json.dumps(dict(os.environ))
    for place in ("/etc/sandboxd/authority.pem", "/etc/sandboxd/authorities.pem", "/proc/self/maps"):
        found += open(place).read()
    return found

print(json.dumps(eval(sys.argv[1])))
"""


class Host:
    """An HTTPS server in `inet` that says what it was asked, but for the secret's value."""

    def __init__(self, directory: Path) -> None:
        self.heads: list[dict[str, list[str]]] = []
        self.authority, pair = _certified(directory, ["api.example.org", "plain.example.org"])
        self.fingerprint = x509.load_pem_x509_certificate(pair.read_bytes()).fingerprint(
            hashes.SHA256()
        )
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair)
        self._listener = socket.create_server((PUBLIC4, PORT))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(line,), daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        try:
            with self._context.wrap_socket(line, server_side=True) as tls:
                stream = tls.makefile("rwb")
                while self._answer(stream):
                    pass
        except OSError:
            pass

    def _answer(self, stream: Any) -> bool:
        line = stream.readline().decode()
        if not line:
            return False
        head: dict[str, list[str]] = {"line": [line.strip()]}
        while text := stream.readline().decode().strip():
            name, _, value = text.partition(":")
            head.setdefault(name.lower(), []).append(value.strip())
        self.heads.append(head)
        size = 0
        if "transfer-encoding" in head:
            while part := int(stream.readline(), 16):
                size += len(stream.read(part + 2)) - 2
            stream.readline()
        elif "content-length" in head:
            size = len(stream.read(int(head["content-length"][0])))
        told = {name: "" if SECRET in str(value) else value for name, value in head.items()}
        body = json.dumps({"head": told, "size": size}).encode()
        stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        stream.flush()
        return True


def _certified(directory: Path, names: list[str]) -> tuple[Path, Path]:
    """An authority's certificate, and one that it signed with its key, as files."""
    now = datetime.datetime.now(datetime.UTC)
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the outside")])
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    made = []
    for key, subject, ca in ((keys[0], issuer, True), (keys[1], x509.Name([]), False)):
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
        if not ca:
            names_ = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(names_, critical=True)
        made.append(builder.sign(keys[0], hashes.SHA256()))
    pem = serialization.Encoding.PEM
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    authority, pair = directory / "authority.pem", directory / "pair.pem"
    authority.write_bytes(made[0].public_bytes(pem))
    pair.write_bytes(made[1].public_bytes(pem) + keys[1].private_bytes(pem, *plain))
    return authority, pair


@pytest.fixture(scope="module")
def host(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = world.inside(world.inet, lambda: Host(tmp_path_factory.mktemp("host")))
    yield host
    host.close()


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    secrets = tmp_path_factory.mktemp("secrets") / "secrets.toml"
    secrets.write_text(f'api = "{SECRET}"\nteam = "{SECRET}-2"\n')
    secrets.chmod(0o600)
    return secrets


@pytest.fixture(scope="module")
def served(world: World, host: Host, secrets: Path) -> Iterator[Service]:
    world.names = {
        ("api.example.org", "A"): [PUBLIC4],
        ("plain.example.org", "A"): [PUBLIC4],
    }
    settings = (f"network.secrets_file={secrets}", f"network.authorities={host.authority}")
    with serving({"attached": _POLICY}, *settings) as service:
        yield service


def look(served: Service, expression: str) -> Any:
    return printed(served, _PROGRAM, expression, network="attached")


def test_the_host_gets_the_secret_and_the_sandbox_does_not(served: Service, host: Host) -> None:
    host.heads.clear()
    told = look(served, 'fetch(b"body", Authorization="Bearer placeholder", X_Mine="1")')
    (head,) = host.heads
    assert head["line"] == ["POST /path?q=1 HTTP/1.1"] and told["size"] == 4
    assert head["authorization"] == [f"Bearer {SECRET}"]
    assert head["x-team"] == [f"team-{SECRET}-2"]
    assert head["x-mine"] == ["1"] if "x-mine" in head else head["x_mine"] == ["1"]
    assert head["host"] == [f"api.example.org:{PORT}"]
    assert SECRET not in look(served, "everything()")


def test_every_request_of_a_connection_gets_it(served: Service, host: Host) -> None:
    host.heads.clear()
    assert [each["size"] for each in look(served, "several(3)")] == [70_001] * 3
    assert [head["authorization"] for head in host.heads] == [[f"Bearer {SECRET}"]] * 3
    host.heads.clear()
    pipelined = (
        "GET /%d HTTP/1.1\\r\\nHost: api.example.org:8443\\r\\nAuthorization: a\\r\\n%s\\r\\n"
    )
    last = "Connection: close\\r\\n"
    data = pipelined % (1, "Authorization: b\\r\\n") + pipelined % (2, last)
    assert look(served, f'raw(b"{data}")').count("HTTP/1.1 200") == 2
    assert [head["authorization"] for head in host.heads] == [[f"Bearer {SECRET}"]] * 2


@pytest.mark.parametrize(
    "request_",
    [
        "GET / HTTP/1.1\\r\\nHost: plain.example.org\\r\\n\\r\\n",
        "GET / HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n",
        "GET / HTTP/1.1\\r\\nHost: api.example.org:8443@evil.example\\r\\n\\r\\n",
        "GET / HTTP/1.1\\r\\n\\r\\n",
        "GET https://evil.example/ HTTP/1.1\\r\\nHost: api.example.org\\r\\n\\r\\n",
        "CONNECT evil.example:443 HTTP/1.1\\r\\nHost: api.example.org\\r\\n\\r\\n",
        "GET / HTTP/1.1\\r\\nHost: api.example.org\\r\\nContent-Length: 1, 2\\r\\n\\r\\n",
        "TRACE / HTTP/1.1\\r\\nHost: api.example.org\\r\\n\\r\\n",
        "PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n",
        "\\x16\\x03\\x01",
    ],
)
def test_what_is_no_request_for_the_host_gets_nowhere(
    served: Service, host: Host, request_: str
) -> None:
    host.heads.clear()
    assert look(served, f'raw(b"{request_}")') == ""
    assert host.heads == []


def test_other_hosts_are_not_opened(served: Service, host: Host) -> None:
    assert look(served, 'certificate("plain.example.org")') == host.fingerprint.hex()
    assert look(served, 'certificate("api.example.org")') != host.fingerprint.hex()
    # The system's authorities are still trusted, the test's is none of them.
    assert look(served, '[trusted("api.example.org"), trusted("plain.example.org")]') == [
        True, False,
    ]  # fmt: skip


def test_the_record_says_what_went_through(served: Service) -> None:
    result = run(served, _PROGRAM, "fetch()", network="attached")
    records = result["network"]["records"]
    found = [each for each in records if each["kind"] == "connection"]
    assert [each["name"] for each in found] == ["api.example.org"]
    assert SECRET not in json.dumps(result)


def test_a_secret_is_replaced_while_sandboxes_live(
    served: Service, host: Host, secrets: Path
) -> None:
    """And a file that lacks one changes nothing."""

    def sent(sandbox: Sandbox) -> str:
        host.heads.clear()
        sandbox.run(["python3", "-c", _PROGRAM, "fetch()"], timeout=20)
        return host.heads[0]["authorization"][0]

    team = f'team = "{SECRET}-2"\n'
    with Client(served.url) as client, Sandbox.create(client=client, network="attached") as sandbox:
        try:
            assert sent(sandbox) == f"Bearer {SECRET}"
            secrets.write_text(team)
            assert "secrets from before stay" in hang_up(served, "secrets")
            assert sent(sandbox) == f"Bearer {SECRET}"
            secrets.write_text(f'api = "{SECRET}-new"\n{team}')
            assert "changed api" in hang_up(served, "network secrets")
            deadline = time.monotonic() + 10 * PATIENCE
            while (found := sent(sandbox)) != f"Bearer {SECRET}-new":
                assert time.monotonic() < deadline, found
        finally:
            secrets.write_text(f'api = "{SECRET}"\n{team}')
            hang_up(served, "network secrets")


ATTACHED = EgressPolicy(
    name="p",
    allow=[EgressRule(domain="api.example.org")],
    attach=[Attachment(domain="api.example.org", secret="api")],
)


def test_a_policy_of_other_files_may_ask_for_what_is_not_here(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text('api = "x"')
    file.chmod(0o600)
    boundary = Boundary(NetworkSettings(secrets_file=str(file)), [ATTACHED])
    try:
        assert boundary.has(ATTACHED) and boundary.has(EgressPolicy(name="plain"))
        (attachment,) = ATTACHED.attach
        for other in (replace(attachment, secret="else"), replace(attachment, domain="x.example")):
            assert not boundary.has(replace(ATTACHED, attach=[other]))
    finally:
        boundary.close()
    assert not Boundary(NetworkSettings(), ()).has(ATTACHED)


def test_the_authority_speaks_for_the_attached_hosts_alone(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text('api = "x"')
    file.chmod(0o600)
    boundary = Boundary(NetworkSettings(secrets_file=str(file)), [ATTACHED])
    authority = x509.load_pem_x509_certificate(boundary.files["etc/sandboxd/authority.pem"])
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert [name.value for name in constraints.value.permitted_subtrees or ()] == [
        "api.example.org"
    ]
    assert list(boundary.certificates) == ["api.example.org"]
    assert boundary.attached(ATTACHED)[0].value == "Bearer x"
    boundary.close()
    assert Boundary(NetworkSettings(), [EgressPolicy(name="q")]).env == {}


@pytest.mark.parametrize(
    ("content", "mode"),
    [(None, 0o600), ('api = "x"', 0o640), ('other = "x"', 0o600), ("api = 1", 0o600),
     ('api = "a\\nb"', 0o600), ("x", 0o600)],
)  # fmt: skip
def test_secrets_that_are_not_there_or_lie_open_keep_the_node_from_starting(
    tmp_path: Path, content: str | None, mode: int
) -> None:
    file = tmp_path / "secrets"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    with pytest.raises(SettingsError):
        Boundary(NetworkSettings(secrets_file=str(file)), [ATTACHED])
    with pytest.raises(SandboxdError):
        Boundary(NetworkSettings(), [ATTACHED])
