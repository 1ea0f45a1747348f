"""Secrets at the boundary: what the guard needs to put them into requests, and sandboxes to believe it.

At each start an authority is made that may speak for the policies' attached hosts alone (name
constraints), signs one certificate for each, and is forgotten: nobody holds its key afterwards, and no
key is ever written to a disk. Sandboxes with a network find its certificate, alone and behind the
system's, and variables that the usual TLS libraries read.
"""

import datetime
import logging
import os
import ssl
import tomllib
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sandboxd.drivers.network.guard.messages import Attached
from sandboxd.model.egress import EgressPolicy
from sandboxd.settings import NetworkSettings, SettingsError

log = logging.getLogger(__name__)

_DAYS = 365
"""That a node may run without a restart, as far as certificates go."""
_EARLY = datetime.timedelta(days=1)
"""Clocks differ."""
AUTHORITY, BUNDLE = "etc/sandboxd/authority.pem", "etc/sandboxd/authorities.pem"
_TRUST = {
    "NODE_EXTRA_CA_CERTS": f"/{AUTHORITY}",
    **dict.fromkeys(
        ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE",
         "PIP_CERT"),
        f"/{BUNDLE}",
    ),
}  # fmt: skip


class Boundary:
    """One per node. Without attachments it holds nothing and changes nothing."""

    def __init__(self, settings: NetworkSettings, policies: Iterable[EgressPolicy]) -> None:
        """Raises SettingsError for a secret that is not there, or that others may read."""
        attachments = [each for policy in policies for each in policy.attach]
        self._file, self._needed = settings.secrets_file, {each.secret for each in attachments}
        self._secrets: dict[str, str] = {}
        self.certificates: dict[str, int] = {}
        """A memory file of certificate and key, by host."""
        self.files: dict[str, bytes] = {}
        """What sandboxes with a network find, by path."""
        self.env: dict[str, str] = {}
        if not attachments:
            return
        self._secrets = _secrets(self._file, self._needed)
        domains = sorted({attachment.domain for attachment in attachments})
        authority, signed = _signed(domains)
        self.certificates = {name: _memory(pem) for name, pem in signed.items()}
        self.files = {AUTHORITY: authority, BUNDLE: _system() + authority}
        self.env = _TRUST

    def attached(self, policy: EgressPolicy) -> tuple[Attached, ...]:
        return tuple(
            Attached(each.domain, each.header, each.value.replace("{}", self._secrets[each.secret]))
            for each in policy.attach
        )

    def has(self, policy: EgressPolicy) -> bool:
        """Whether all that it attaches is here: one of a former node's files may ask for more."""
        return all(
            each.secret in self._secrets and each.domain in self.certificates
            for each in policy.attach
        )

    def reread(self) -> set[str]:
        """Which secrets have another value now. If the file makes no sense, those from before stay, and
        the log says why. Blocks for the file's I/O."""
        if not self._needed:
            return set()
        try:
            found = _secrets(self._file, self._needed)
        except SettingsError as error:
            log.error("the secrets from before stay in force: %s", error)
            return set()
        former, self._secrets = self._secrets, found
        changed = {name for name in self._needed if former[name] != found[name]}
        if changed:
            log.info("network secrets: changed %s", ", ".join(sorted(changed)))
        return changed

    def close(self) -> None:
        while self.certificates:
            os.close(self.certificates.popitem()[1])


def _secrets(file: str, needed: Iterable[str]) -> dict[str, str]:
    if not file:
        raise SettingsError("network.secrets_file: a policy attaches secrets, and there is no file")
    path = Path(file)
    try:
        if path.stat().st_mode & 0o077:
            raise SettingsError(f"network.secrets_file: {path}: others than its owner may read it")
        found = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"network.secrets_file: {error}") from error
    for name, value in found.items():
        if not isinstance(value, str) or not value.isprintable() or not value.isascii():
            raise SettingsError(f"network.secrets_file: {name} is no line of ASCII")
    for name in needed:
        if name not in found:
            raise SettingsError(f"network.secrets_file: there is no {name}")
    return found


def _signed(domains: list[str]) -> tuple[bytes, dict[str, bytes]]:
    """The authority's certificate, and certificate and key of each host, as PEM."""
    now = datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sandboxd: attached secrets")])

    def begun(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _EARLY)
            .not_valid_after(now + datetime.timedelta(days=_DAYS))
        )

    names = [x509.DNSName(domain) for domain in domains]
    authority = (
        begun(issuer, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.NameConstraints(names, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    made = {}
    for domain in domains:
        own = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            begun(x509.Name([]), own.public_key())
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        made[domain] = _pem(certificate) + own.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    return _pem(authority), made


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates, key_cert_sign=sign_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _memory(content: bytes) -> int:
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    os.write(fd, content)
    return fd


def _system() -> bytes:
    """The host's authorities; a sandbox's image may have none."""
    place = ssl.get_default_verify_paths().cafile
    return Path(place).read_bytes() if place else b""
