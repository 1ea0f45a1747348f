"""What is told through Redis counts if a node told it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sandboxd.model.overlay import Mate, OverlayRecord, Peer
from sandboxd.queue.sealing import Seal
from sandboxd.settings import SettingsError

PEER = Peer(underlay="192.0.2.1", ipv4="10.61.0.0/24", ipv6="fd61::/112", key="k", port=1)
MATE = Mate(group="g", name="a", ipv4="10.61.0.9", ipv6="fd61::9")
RECORD = OverlayRecord(node="left", peer=PEER, mates=(MATE,))
SECRET = b"s" * 32


@pytest.mark.parametrize("secret", [b"", SECRET])
def test_what_a_node_told_is_what_others_hear(secret: bytes) -> None:
    seal = Seal(secret)
    assert seal.opened(seal.closed(RECORD), "left") == RECORD


@pytest.mark.parametrize("teller", [Seal(), Seal(b"t" * 32)])
def test_who_has_not_the_secret_is_no_node(teller: Seal) -> None:
    with pytest.raises(ValueError, match="secret"):
        Seal(SECRET).opened(teller.closed(RECORD), "left")


@given(st.data())
def test_a_changed_byte_is_seen(data: st.DataObject) -> None:
    document = bytearray(Seal(SECRET).closed(RECORD))
    where = data.draw(st.integers(0, len(document) - 1))
    document[where] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match="secret"):
        Seal(SECRET).opened(bytes(document), "left")


@given(st.binary(max_size=80))
def test_bytes_that_are_no_record_are_refused(document: bytes) -> None:
    for seal in (Seal(), Seal(SECRET)):
        with pytest.raises(ValueError):
            seal.opened(document, "left")


def test_a_record_of_one_node_is_not_anothers() -> None:
    seal = Seal(SECRET)
    with pytest.raises(ValueError, match="left's"):
        seal.opened(seal.closed(RECORD), "right")


@pytest.mark.parametrize(
    "record",
    [
        replace(RECORD, peer=replace(PEER, underlay="left.example")),
        replace(RECORD, peer=replace(PEER, ipv4="10.61.0.0/33")),
        replace(RECORD, peer=replace(PEER, ipv6="10.61.0.0/24")),
        replace(RECORD, mates=(replace(MATE, ipv4="10.62.0.9"),)),
        replace(RECORD, mates=(MATE, replace(MATE, ipv6="?"))),
    ],
)
def test_what_are_no_addresses_of_a_node_s_are_refused(record: OverlayRecord) -> None:
    with pytest.raises(ValueError):
        Seal().opened(Seal().closed(record), "left")


def test_a_secret_is_long_and_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    with pytest.raises(SettingsError, match="overlay_secret_file"):
        Seal.of(str(file))
    file.write_bytes(SECRET + b"\n")
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="others than its owner"):
        Seal.of(str(file))
    file.chmod(0o600)
    assert Seal.of(str(file)).closed(RECORD) == Seal(SECRET).closed(RECORD)
    file.write_bytes(b"short\n")
    with pytest.raises(SettingsError, match="less than 32"):
        Seal.of(str(file))
