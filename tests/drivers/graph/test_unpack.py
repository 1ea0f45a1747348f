"""Hostile archives: each is refused by name or normalised by the rule at the head of `unpack.tree`.

After every test nothing outside the layer has changed, and a refusal has left nothing.
"""

import gzip
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.unpack.parent import unpack
from sandboxd.drivers.graph.unpack.source import Source
from sandboxd.drivers.graph.unpack.tar import Malformed, entries, padding
from sandboxd.drivers.graph.unpack.tree import Limits, Refused, parts_of
from sandboxd.errors import InvalidImage
from sandboxd.settings import Settings
from tests.drivers.graph.archives import (
    BLOCK,
    CHAR,
    DIR,
    END,
    FIFO,
    HARD,
    LINK,
    Item,
    archive,
    bomb,
    d,
    header,
)

BASE = Settings().graph.uid_base


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file beside the store that no archive may read, change, replace or link to."""
    outside = tmp_path / "outside"
    outside.mkdir()
    file = outside / "canary"
    file.write_text("untouched")
    before = (file.stat(), sorted(outside.iterdir()), sorted(tmp_path.iterdir()))
    yield file
    now = file.stat()
    assert file.read_text() == "untouched"
    assert (now.st_ino, now.st_mode, now.st_uid, now.st_nlink, now.st_mtime_ns) == (
        before[0].st_ino,
        before[0].st_mode,
        before[0].st_uid,
        before[0].st_nlink,
        before[0].st_mtime_ns,
    )
    assert sorted(outside.iterdir()) == before[1]
    state = tmp_path / "state"
    assert sorted(path for path in tmp_path.iterdir() if path != state) == [
        path for path in before[2] if path != state
    ]


def unpacked(graph: Graph, data: bytes) -> Path:
    """The layer's directory."""
    with graph.store.leasing() as lease:
        with graph.store.writing(lease) as writer:
            writer.write(data)
        return graph.layers.ensure([writer.digest])[0].path


def refused(graph: Graph, data: bytes) -> str:
    """The reason; and that nothing is left."""
    with pytest.raises(InvalidImage) as caught:
        unpacked(graph, data)
    assert list((graph.store.root / "layers").iterdir()) == []
    assert list((graph.store.root / "staging").iterdir()) == []
    return caught.value.detail


def owner(path: Path) -> int:
    return path.lstat().st_uid - BASE


class TestNames:
    @pytest.mark.parametrize("name", ["../outside/canary", "a/../../outside/canary", ".."])
    def test_a_name_that_climbs_is_refused(self, graph: Graph, canary: Path, name: str) -> None:
        assert "'..' in a name" in refused(graph, archive([Item(name, b"evil")]))

    def test_an_absolute_name_is_taken_below_the_root(self, graph: Graph, canary: Path) -> None:
        layer = unpacked(graph, archive([Item(str(canary), b"evil")]))
        assert (layer / str(canary)[1:]).read_text() == "evil"

    def test_dots_and_double_slashes_are_dropped(self, graph: Graph) -> None:
        layer = unpacked(graph, archive([Item(".//a/./b", b"x")]))
        assert (layer / "a" / "b").read_text() == "x"

    def test_long_names_of_both_dialects_are_read(self, graph: Graph) -> None:
        name = "/".join(["n" * 200] * 15)
        for dialect in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            layer = unpacked(graph, archive([Item(name, b"x")], dialect))
            fd = os.open(layer, os.O_RDONLY)
            for part in name.split("/")[:-1]:
                deeper = os.open(part, os.O_RDONLY, dir_fd=fd)
                os.close(fd)
                fd = deeper
            assert os.stat("n" * 200, dir_fd=fd).st_size == 1
            os.close(fd)

    @pytest.mark.parametrize("name", ["n" * 256, "/".join(["a"] * 300), "/".join(["n" * 200] * 40)])
    def test_names_beyond_the_kernels_are_refused(self, graph: Graph, name: str) -> None:
        assert name[:100] in refused(graph, archive([Item(name, b"x")]))

    def test_a_name_that_is_not_utf8_stays_as_it_is(self, graph: Graph) -> None:
        layer = unpacked(graph, header(name=b"\xff\xfe") + END)
        assert os.listdir(bytes(layer)) == [b"\xff\xfe"]

    def test_the_root_is_a_directory(self, graph: Graph) -> None:
        assert "the root is a directory" in refused(
            graph, archive([Item("./", b"x", LINK, to="/")])
        )


class TestLinks:
    @pytest.mark.parametrize("target", ["/etc", "../../outside", "."])
    def test_a_path_through_a_link_is_refused(
        self, graph: Graph, canary: Path, target: str
    ) -> None:
        items = [Item("link", kind=LINK, to=target), Item("link/canary", b"evil")]
        assert "'link/canary'" in refused(graph, archive(items))

    def test_a_link_swapped_for_a_directory_on_the_way_is_refused(
        self, graph: Graph, canary: Path
    ) -> None:
        items = [d("a"), d("a/b"), Item("a/b", kind=LINK, to="/"), Item("a/b/canary", b"evil")]
        assert "'a/b/canary'" in refused(graph, archive(items))

    def test_a_symbolic_link_is_kept_and_never_followed(self, graph: Graph, canary: Path) -> None:
        items = [Item("l", kind=LINK, to=str(canary), mode=0o777), Item("l", b"mine")]
        layer = unpacked(graph, archive(items))
        assert not (layer / "l").is_symlink()
        layer = unpacked(graph, archive(items[:1]))
        assert (layer / "l").readlink() == canary

    @pytest.mark.parametrize("target", ["/outside/canary", "absent", "d", "l", "l/canary"])
    def test_a_hard_link_to_what_is_no_file_of_the_layer_is_refused(
        self, graph: Graph, canary: Path, target: str
    ) -> None:
        items = [
            d("d"),
            Item("l", kind=LINK, to=str(canary.parent)),
            Item("h", kind=HARD, to=target),
        ]
        if target == "l":
            layer = unpacked(graph, archive(items))  # the link itself, not where it leads
            assert (layer / "h").is_symlink()
        else:
            assert "'h'" in refused(graph, archive(items))

    def test_a_hard_link_that_climbs_is_refused(self, graph: Graph, canary: Path) -> None:
        items = [Item("h", kind=HARD, to="../../outside/canary")]
        assert "'..' in a name" in refused(graph, archive(items))

    def test_a_hard_link_within_the_layer_is_one_file(self, graph: Graph) -> None:
        items = [Item("a/f", b"x"), Item("b/h", kind=HARD, to="/a/f")]
        layer = unpacked(graph, archive(items))
        assert (layer / "a/f").stat().st_ino == (layer / "b/h").stat().st_ino

    def test_a_hard_link_to_itself_is_refused(self, graph: Graph) -> None:
        items = [Item("f", b"x"), Item("f", kind=HARD, to="f")]
        assert "itself" in refused(graph, archive(items))


class TestModesAndKinds:
    def test_set_id_bits_are_cleared(self, graph: Graph) -> None:
        items = [Item("f", b"x", mode=0o6755), d("g", 0o3777)]
        layer = unpacked(graph, archive(items))
        assert stat.S_IMODE((layer / "f").stat().st_mode) == 0o755
        assert stat.S_IMODE((layer / "g").stat().st_mode) == 0o1777

    def test_devices_are_left_out(self, graph: Graph) -> None:
        items = [
            Item("sda", kind=BLOCK, device=(8, 0)),
            Item("mem", kind=CHAR, device=(1, 1)),
            Item("whiteout", kind=CHAR, device=(0, 0)),
            Item("pipe", kind=FIFO),
        ]
        layer = unpacked(graph, archive(items))
        assert os.listdir(layer) == ["pipe"]

    def test_capabilities_and_overlay_attributes_are_dropped(self, graph: Graph) -> None:
        pax = {
            "SCHILY.xattr.security.capability": "\x01\x00\x00\x02",
            "SCHILY.xattr.trusted.overlay.opaque": "y",
            "SCHILY.xattr.trusted.overlay.redirect": "/etc",
            "SCHILY.xattr.user.overlay.metacopy": "y",
            "SCHILY.xattr.user.note": "kept",
        }
        layer = unpacked(graph, archive([Item("f", b"x", pax=pax), Item("d", kind=DIR, pax=pax)]))
        for name in ("f", "d"):
            assert os.listxattr(layer / name) == ["user.note"]

    def test_owners_are_shifted_and_clamped(self, graph: Graph) -> None:
        items = [
            Item("a", uid=0),
            Item("b", uid=1000),
            Item("c", uid=1 << 24),
            Item("l", kind=LINK, to="x", uid=7),
        ]
        layer = unpacked(graph, archive(items))
        assert [owner(layer / name) for name in "abcl"] == [0, 1000, 65_534, 7]

    def test_implied_directories_are_roots(self, graph: Graph) -> None:
        layer = unpacked(graph, archive([Item("a/b/f", b"x", uid=5)]))
        assert owner(layer / "a") == 0
        assert stat.S_IMODE((layer / "a").stat().st_mode) == 0o755

    def test_the_last_of_duplicates_stays(self, graph: Graph) -> None:
        items = [
            Item("f", b"first"),
            Item("f", b"second"),
            Item("g", b"x"),
            d("g"),
            d("h"),
            Item("h", b"y"),
        ]
        layer = unpacked(graph, archive(items))
        assert (layer / "f").read_bytes() == b"second"
        assert (layer / "g").is_dir()
        assert (layer / "h").read_bytes() == b"y"

    def test_a_file_in_place_of_a_full_directory_is_refused(self, graph: Graph) -> None:
        assert "'a'" in refused(graph, archive([Item("a/b", b"x"), Item("a", b"y")]))

    def test_a_file_used_as_a_directory_is_refused(self, graph: Graph) -> None:
        assert "'a/b'" in refused(graph, archive([Item("a", b"x"), Item("a/b", b"y")]))


class TestWhiteouts:
    def test_a_whiteout_is_a_device_of_the_overlay(self, graph: Graph) -> None:
        layer = unpacked(graph, archive([Item("a/.wh.gone")]))
        status = (layer / "a/gone").lstat()
        assert stat.S_ISCHR(status.st_mode)
        assert status.st_rdev == 0

    def test_an_opaque_directory_is_marked_by_the_host(self, graph: Graph) -> None:
        layer = unpacked(graph, archive([d("a"), Item("a/.wh..wh..opq"), Item("a/f", b"x")]))
        assert os.getxattr(layer / "a", "trusted.overlay.opaque") == b"y"
        assert os.listdir(layer / "a") == ["f"]

    @pytest.mark.parametrize("order", [1, -1])
    def test_what_the_layer_has_wins_over_its_own_whiteout(self, graph: Graph, order: int) -> None:
        items = [Item(".wh.f"), Item("f", b"new"), Item(".wh.d"), Item("d/x", b"new")][::order]
        layer = unpacked(graph, archive(items))
        assert (layer / "f").read_bytes() == b"new"
        assert os.getxattr(layer / "d", "trusted.overlay.opaque") == b"y"

    @pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", ".wh.d/f", "a/.wh.d/f"])
    def test_a_whiteout_of_nothing_is_refused(self, graph: Graph, name: str) -> None:
        refused(graph, archive([Item(name)]))

    def test_a_whiteout_with_content_is_refused(self, graph: Graph) -> None:
        assert "content" in refused(graph, archive([Item(".wh.f", b"x")]))

    def test_bookkeeping_of_aufs_is_left_out(self, graph: Graph) -> None:
        layer = unpacked(graph, archive([Item(".wh..wh.plnk"), Item(".wh..wh.orph")]))
        assert os.listdir(layer) == []


class TestStreams:
    def test_a_gzip_bomb_stops_at_the_limit(self, graph: Graph) -> None:
        assert "bytes uncompressed" in refused(graph, bomb(80 << 20))

    def test_a_zstd_bomb_stops_at_the_limit(self, graph: Graph) -> None:
        raw = header(name=b"zeros", size=b"%011o" % (80 << 20)) + bytes(80 << 20) + END
        assert "bytes uncompressed" in refused(graph, zstandard.compress(raw))

    def test_sparse_files_are_refused(self, graph: Graph) -> None:
        assert "sparse" in refused(graph, header(type=b"S", size=b"00000000000") + END)
        pax = {"GNU.sparse.major": "1", "GNU.sparse.realsize": str(1 << 50)}
        assert "sparse" in refused(graph, archive([Item("f", b"x", pax=pax)]))

    def test_too_many_files_are_refused(self, graph: Graph) -> None:
        data = b"".join(header(name=b"%d" % number) for number in range(5_001)) + END
        assert "more than 5000 entries" in refused(graph, data)

    @pytest.mark.parametrize("cut", [100, 512, 700, 1100])
    def test_a_truncated_archive_is_refused(self, graph: Graph, cut: int) -> None:
        data = archive([Item("a", b"x" * 600), Item("b", b"y")])
        assert "cut short" in refused(graph, data[:cut])
        assert "cut short" in refused(graph, gzip.compress(data[:cut]))
        assert "cut short" in refused(graph, zstandard.compress(data[:cut]))

    def test_a_truncated_gzip_is_refused(self, graph: Graph) -> None:
        data = gzip.compress(archive([Item("a", os.urandom(5000))]))
        assert "cut short" in refused(graph, data[:-9])

    def test_garbage_is_refused(self, graph: Graph) -> None:
        refused(graph, b"\x1f\x8b" + os.urandom(2000))
        refused(graph, b"\x28\xb5\x2f\xfd" + os.urandom(2000))
        refused(graph, os.urandom(2048))
        refused(graph, gzip.compress(archive([])) + b"rest")

    def test_a_wrong_checksum_is_refused(self, graph: Graph) -> None:
        data = bytearray(archive([Item("a", b"x")]))
        data[0] ^= 1
        assert "checksum" in refused(graph, bytes(data))

    def test_an_unknown_type_is_refused_by_name(self, graph: Graph) -> None:
        assert "'strange'" in refused(graph, header(name=b"strange", type=b"M") + END)

    def test_compressions_give_the_same_layer(self, graph: Graph) -> None:
        plain = archive([Item("f", b"content" * 1000)])
        ids = set()
        for data in (
            plain,
            gzip.compress(plain),
            zstandard.compress(plain),
            gzip.compress(plain[:700]) + gzip.compress(plain[700:]),
        ):
            with graph.store.leasing() as lease, graph.store.writing(lease) as writer:
                writer.write(data)
            (layer,) = graph.layers.ensure([writer.digest])
            assert (layer.path / "f").read_bytes() == b"content" * 1000
            ids.add(layer.diff_id)
        assert len(ids) == 1

    def test_a_window_of_gigabytes_is_refused(self, graph: Graph) -> None:
        parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
        compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        data = compressor.compress(archive([Item("f", b"x")])) + compressor.flush()
        assert "not zstd" in refused(graph, data)


@pytest.mark.unsanitized("the sanitiser's shadow is beyond the child's address space")
def test_the_child_has_no_way_out(tmp_path: Path) -> None:
    """What the parser could do if it were taken over: tried from inside, by a parser that is."""
    from tests.drivers.graph import captured_child

    assert captured_child.attempts(tmp_path) == {}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=4096), st.integers(0, 3))
def test_the_parser_takes_any_bytes(data: bytes, headers: int) -> None:
    stream = (
        b"".join(header(name=b"n%d" % i, type=b"xLK0"[i : i + 1]) for i in range(headers)) + data
    )
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        at += size
        if at > len(stream):
            raise Malformed("end")
        return stream[at - size : at]

    try:
        for entry in entries(read):
            assert entry.size >= 0
            read(entry.size + padding(entry.size))
    except Malformed:
        pass


@given(st.binary(max_size=300))
def test_a_name_never_leads_out_of_the_root(name: bytes) -> None:
    try:
        parts = parts_of(name)
    except Refused:
        return
    assert all(part not in (b"", b".", b"..") and b"/" not in part for part in parts)


def test_the_source_counts_what_it_gives(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(gzip.compress(b"a" * 1000))
    fd = os.open(path, os.O_RDONLY)
    source = Source(fd, 1000)
    assert source.read(10) == b"a" * 10
    assert len(source.read(990)) == 990
    with pytest.raises(Malformed, match="cut short"):
        source.read(1)
    os.close(fd)


def test_unpack_leaves_no_descriptor(tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(archive([Item("f", b"x")]))
    before = os.listdir("/proc/self/fd")
    for number in range(2):
        target = tmp_path / str(number)
        target.mkdir()
        unpack(blob, target, limits=Limits(10, 1 << 20), uid_base=BASE)
    assert os.listdir("/proc/self/fd") == before
