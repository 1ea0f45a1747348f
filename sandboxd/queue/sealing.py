"""What a node tells others through Redis, and the proof that it was a node. Pure but for the file.

A document is 32 bytes of HMAC-SHA256 under the nodes' secret, nothing where they have none, and then
JSON. It tells who, not when: an older one of the same node passes, too.
"""

import hmac
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

import msgspec

from sandboxd.model.overlay import OverlayRecord
from sandboxd.settings import SettingsError

_SHORTEST = 32
_PROOF = 32
_PURPOSE = b"sandboxd overlay record\0"
_record = msgspec.json.Decoder(OverlayRecord)


class Seal:
    def __init__(self, secret: bytes = b"") -> None:
        """Without a secret whoever tells is believed."""
        self._secret = secret

    @classmethod
    def of(cls, file: str) -> "Seal":
        """With the secret of that file; without one if there is no name. Raises SettingsError."""
        return cls(_read(Path(file))) if file else cls()

    def closed(self, record: OverlayRecord) -> bytes:
        text = msgspec.json.encode(record)
        return self._proof(text) + text

    def opened(self, document: bytes, node: str) -> OverlayRecord:
        """Raises ValueError unless this is what that node has told."""
        length = _PROOF if self._secret else 0
        proof, text = document[:length], document[length:]
        if not hmac.compare_digest(proof, self._proof(text)):
            raise ValueError("it is not of who has the nodes' secret")
        record = _record.decode(text)
        if record.node != node:
            raise ValueError(f"it is {record.node}'s")
        _check_addresses(record)
        return record

    def _proof(self, text: bytes) -> bytes:
        return hmac.digest(self._secret, _PURPOSE + text, "sha256") if self._secret else b""


def _check_addresses(record: OverlayRecord) -> None:
    """Raises ValueError unless they are addresses, and its sandboxes' are of its ranges."""
    ip_address(record.peer.underlay)
    range4, range6 = IPv4Network(record.peer.ipv4), IPv6Network(record.peer.ipv6)
    for mate in record.mates:
        if IPv4Address(mate.ipv4) not in range4 or IPv6Address(mate.ipv6) not in range6:
            raise ValueError(f"{mate.ipv4} or {mate.ipv6} is not of its ranges")


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_mode & 0o077:
            raise SettingsError(
                f"network.overlay_secret_file: {path}: others than its owner may read it"
            )
        secret = path.read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"network.overlay_secret_file: {error}") from error
    if len(secret) < _SHORTEST:
        raise SettingsError(f"network.overlay_secret_file: {path} has less than {_SHORTEST} bytes")
    return secret
