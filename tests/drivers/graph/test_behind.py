"""What is written behind is what was given, and its faults are the giver's."""

import hashlib
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandboxd.drivers.graph import behind
from sandboxd.drivers.graph.behind import WriteBehind
from sandboxd.drivers.graph.store import BlobWriter

PIECES = st.lists(st.tuples(st.booleans(), st.integers(0, 3 * behind.SIZE)), max_size=8)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(pieces=PIECES)
def test_the_blob_is_all_that_was_given_in_its_order(tmp_path: Path, pieces: list) -> None:
    before, path = threading.active_count(), tmp_path / "blob"
    expected = b""
    with BlobWriter(path) as blob:
        writer = WriteBehind(blob)
        for number, (in_place, size) in enumerate(pieces):
            data = bytes([number + 1]) * size
            expected += data
            if not in_place:
                writer.write(data)
                continue
            while data:
                room = writer.room()
                count = min(len(room), len(data), 100_000)
                room[:count] = data[:count]
                writer.wrote(count)
                data = data[count:]
        assert writer.finish() == f"sha256:{hashlib.sha256(expected).hexdigest()}"
        assert blob.size == len(expected)
    assert path.read_bytes() == expected
    path.unlink()
    assert threading.active_count() == before


class Full:
    """A disk that is."""

    digest = ""

    def write(self, data: memoryview) -> None:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("size", [1, behind.SIZE + 1, 20 * behind.SIZE])
def test_a_fault_of_the_disk_is_raised_where_the_work_was_given(size: int) -> None:
    before = threading.active_count()
    writer = WriteBehind(Full())  # type: ignore[arg-type]
    try:
        with pytest.raises(OSError, match="No space"):
            writer.write(bytes(size))
            writer.finish()
    finally:
        writer.close()
    assert threading.active_count() == before
