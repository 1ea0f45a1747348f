"""Images from Dockerfiles, each RUN in a real sandbox; what a context or a step tries on the host."""

import asyncio
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import msgspec
import pytest

from sandboxd.drivers.graph.builder.build import Build
from sandboxd.drivers.graph.builder.context import unpacked
from sandboxd.drivers.graph.collection import collect
from sandboxd.drivers.graph.graph import Graph
from sandboxd.drivers.graph.merged import Merged
from sandboxd.drivers.graph.verify import verify
from sandboxd.errors import BuildFailed, InvalidDockerfile, InvalidImage
from sandboxd.model.building import Progress
from sandboxd.node.workshop import workshop
from sandboxd.settings import Settings
from tests.drivers.graph.archives import LINK, Item, archive, d
from tests.drivers.graph.test_rootfs import BUSYBOX
from tests.drivers.graph.test_store import tagged

pytestmark = pytest.mark.root
ROOT = PurePosixPath("/")


class Shop:
    """Builds with a runner of its own, and keeps what was told."""

    def __init__(self, settings: Settings, graph: Graph) -> None:
        self.settings, self.graph = settings, graph
        self.events: list[Progress] = []

    def build(
        self,
        dockerfile: str,
        *items: Item,
        target: str = "",
        arguments: Mapping[str, str] | None = None,
        before: Callable[[], None] = lambda: None,
    ) -> str:
        """The digest; the image is called `made`."""
        self.events = []

        async def run() -> str:
            loop = asyncio.get_running_loop()
            return await asyncio.to_thread(work, loop)

        def work(loop: asyncio.AbstractEventLoop) -> str:
            graph = self.graph
            with graph.store.leasing() as lease, workshop(self.settings, graph, loop) as runner:
                with graph.store.writing(lease) as blob:
                    blob.write(archive(items))
                with unpacked(graph, graph.store.blob(blob.digest)) as context:
                    build = Build(
                        graph, lease, resolve=graph.images.resolve, runner=runner,
                        report=self.events.append,
                    )  # fmt: skip
                    before()
                    digest = build.build(dockerfile, context, arguments or {}, target)
                graph.store.tag("made:latest", digest)
                return digest

        digest = asyncio.run(run())
        assert os.listdir(self.graph.store.root / "staging") == []
        return digest

    @property
    def output(self) -> str:
        return "".join(event.text for event in self.events if event.type == "output")

    @property
    def fresh(self) -> list[str]:
        """The instructions that were not found in the cache."""
        return [
            event.text.split()[0]
            for event in self.events
            if event.type == "step" and not event.cached
        ]

    def tree(self, digest: str) -> Merged:
        layers = self.graph.images.details(digest).manifest.layers
        paths = [self.graph.layers.path(layer.digest) for layer in reversed(layers)]
        return Merged(paths, self.settings.graph.uid_base)

    def text(self, digest: str, path: str) -> str:
        return self.tree(digest).read(PurePosixPath(path), 1 << 20).decode()


@pytest.fixture
def shop(settings: Settings, graph: Graph, tmp_path: Path) -> Shop:
    own = msgspec.structs.replace(
        settings, instance=f"b{secrets.token_hex(4)}", run_dir=str(tmp_path / "run"),
        node=msgspec.structs.replace(settings.node, uid_base=0xDA00_0000),
    )  # fmt: skip
    tagged(graph, "box", archive([BUSYBOX, Item("bin/sh", kind=LINK, to="busybox"), d("etc"),
        d("usr/bin"), Item("sbin", kind=LINK, to="usr/bin"), d("tmp", 0o1777)]))  # fmt: skip
    return Shop(own, graph)


def test_steps_see_what_those_before_them_made(shop: Shop) -> None:
    made = shop.build(
        "FROM box\nARG N=3\nENV WORD=word\nWORKDIR /app\nCOPY src/ ./\n"
        "RUN echo $WORD$N > made; busybox cat a.txt; busybox id -u\n"
        'RUN ["busybox", "rm", "a.txt"]\nCMD ["run"]\n',
        d("src"), Item("src/a.txt", b"from the context\n", uid=7), Item("other", b"x"),
        arguments={"N": "7"},
    )  # fmt: skip
    assert shop.output == "from the context\n0\n"
    assert shop.text(made, "/app/made") == "word7\n"
    assert shop.text(made, "/app/a.txt") == ""
    config = shop.graph.images.details(made).config
    assert config.config is not None
    assert (config.config.working_dir, config.config.cmd) == ("/app", ["run"])
    assert [event.step for event in shop.events if event.type == "step"] == list(range(1, 9))
    steps = config.history or []
    assert sum(not step.empty_layer for step in steps) == len(config.rootfs.diff_ids)


def test_only_what_changed_is_made_again(shop: Shop) -> None:
    text = "FROM box\nCOPY a /a\nRUN echo x > /x\nCOPY b /b\nRUN busybox cat /b > /y\n"
    shop.build(text, Item("a", b"1"), Item("b", b"1"))
    assert shop.fresh == ["COPY", "RUN", "COPY", "RUN"]
    first = shop.build(text, Item("a", b"1"), Item("b", b"1"))
    assert shop.fresh == []
    second = shop.build(text, Item("a", b"1"), Item("b", b"2"))
    assert shop.fresh == ["COPY", "RUN"]
    assert (shop.text(first, "/y"), shop.text(second, "/y")) == ("1", "2")
    shop.graph.store.untag("made:latest")
    collect(shop.graph.store)
    shop.build(text, Item("a", b"1"), Item("b", b"2"))
    assert shop.fresh == ["COPY", "RUN", "COPY", "RUN"]
    assert list(verify(shop.graph.store)) == []


def test_a_failed_step_names_its_line_and_leaves_no_image(shop: Shop) -> None:
    with pytest.raises(BuildFailed, match=r"line 3: .*ended with 4") as caught:
        shop.build("FROM box\n\nRUN echo seen; exit 4\nRUN echo never\n")
    assert caught.value.line == 3
    assert shop.output == "seen\n"
    assert [tag.name for tag in shop.graph.store.tags()] == ["box:latest"]


@pytest.mark.parametrize(
    ("dockerfile", "error"),
    [
        ("FROM nosuch\n", "line 1: no image named nosuch"),
        ("FROM box\nCOPY missing /x\n", "line 2: missing: there is no such file"),
        ("FROM box\nCOPY --from=nosuch a b\n", "line 2: no image named nosuch"),
        ("FROM box\nCOPY a /etc/\nCOPY a /etc\nCOPY dir /bin/busybox\n", "line 4: .*not a directory"),
        ("FROM box\nCOPY a /etc2\nCOPY dir/b /etc2/x\n", "line 3: /etc2 is not a directory"),
        ("FROM box\nUSER nobody\nRUN true\n", "line 3: there is no user"),
        ("FROM scratch\nRUN true\n", "line 2: nothing can run in an empty image"),
        ("FROM box\nADD bad.tar.xz /x\n", "line 2: .*xz are not supported"),
        ("FROM box AS a\nCOPY --from=b x y\nFROM box AS b\n", "line 2: no image named b"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_names_its_line(shop: Shop, dockerfile: str, error: str) -> None:
    items = [Item("a", b"x"), d("dir"), Item("dir/b", b"y"), Item("bad.tar.xz", b"\xfd7zXZ\0")]
    target = "a" if "AS a" in dockerfile else ""
    with pytest.raises(InvalidDockerfile, match=error):
        shop.build(dockerfile, *items, target=target)


def test_stages_give_files_to_each_other_and_unneeded_ones_are_not_built(shop: Shop) -> None:
    made = shop.build(
        "FROM box AS one\nRUN echo 1 > /out && busybox chown 5:6 /out\nFROM box AS two\nRUN exit 1\n"
        "FROM scratch\nCOPY --from=one /out /a\nCOPY --from=0 --chown=7 --chmod=600 /out /b\n"
        "COPY --from=box /bin/busybox /c\n"
    )
    tree = shop.tree(made)
    top = tree.get(ROOT)
    assert top is not None
    found = {node.path.name: node for node in tree.children(top)}
    assert set(found) == {"a", "b", "c"}
    assert tree.owner(found["a"]) == (5, 6)
    assert tree.owner(found["b"]) == (7, 7)
    assert stat.S_IMODE(found["b"].status.st_mode) == 0o600


def test_destinations_follow_the_links_of_the_image_and_keep_its_directories(shop: Shop) -> None:
    made = shop.build(
        "FROM box\nCOPY a /sbin/new\nCOPY tree /\nCOPY a /tmp/x\n",
        Item("a", b"x"), d("tree"), d("tree/sbin", 0o700), Item("tree/sbin/too", b"y"),
    )  # fmt: skip
    tree = shop.tree(made)
    assert shop.text(made, "/usr/bin/new") == "x"
    assert shop.text(made, "/usr/bin/too") == "y"
    link, sticky = tree.get(ROOT / "sbin"), tree.get(ROOT / "tmp")
    assert link is not None and link.is_link
    assert sticky is not None and stat.S_IMODE(sticky.status.st_mode) == 0o1777


def test_archives_are_taken_apart_by_add_alone(shop: Shop) -> None:
    inner = archive([Item("in/side", b"x", uid=3), Item("link", kind=LINK, to="/etc/shadow")])
    made = shop.build(
        "FROM scratch\nADD a.tar /add/\nCOPY a.tar /copy/\nADD b /copy/\n",
        Item("a.tar", inner), Item("b", b"not an archive"),
    )  # fmt: skip
    assert shop.text(made, "/add/in/side") == "x"
    assert len(shop.text(made, "/copy/a.tar")) == len(inner)
    assert shop.text(made, "/copy/b") == "not an archive"


def test_a_context_reaches_nothing_of_the_host(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "canary").write_text("secret")
    items = [
        Item("file", kind=LINK, to=str(tmp_path / "canary")), d("dir"),
        Item("dir/up", kind=LINK, to="../../../../../../../../../" + str(tmp_path)),
        Item("passwd", kind=LINK, to="/etc/passwd"),
    ]  # fmt: skip
    for source in (
        "file",
        "passwd",
        "dir/up/canary",
        "../../etc/passwd",
        "dir/../../../etc/passwd",
    ):
        with pytest.raises(InvalidDockerfile, match="no such file"):
            shop.build(f"FROM scratch\nCOPY {source} /x\n", *items)
    made = shop.build("FROM scratch\nCOPY dir /dir\n", *items)
    node = shop.tree(made).get(ROOT / "dir" / "up")
    assert node is not None and node.is_link
    with pytest.raises(InvalidImage, match=r"'\.\.' in a name"):
        shop.build("FROM scratch\nCOPY a /a\n", Item("../a", b"x"))


def test_what_dockerignore_names_stays_out(shop: Shop) -> None:
    items = [
        Item(".dockerignore", b"*.log\nsecret\n!keep.log\n"), Item("a", b"a"), Item("b.log", b"b"),
        Item("keep.log", b"k"), d("secret"), Item("secret/key", b"s"),
    ]  # fmt: skip
    made = shop.build("FROM scratch\nCOPY . /\n", *items)
    assert shop.text(made, "/a") == "a"
    assert shop.text(made, "/keep.log") == "k"
    assert (shop.text(made, "/b.log"), shop.text(made, "/secret/key")) == ("", "")
    with pytest.raises(InvalidDockerfile, match="no such file"):
        shop.build("FROM scratch\nCOPY secret/key /\n", *items[:1], *items[4:])


def test_users_of_the_image_run_steps_and_own_files(shop: Shop) -> None:
    made = shop.build(
        "FROM box\nRUN echo 'bob:x:501:502::/home/bob:' > /etc/passwd; "
        "echo 'staff:x:77:' > /etc/group\nCOPY --chown=bob:staff --chmod=400 a /home/bob/\n"
        "USER bob\nRUN busybox id -u; echo $HOME; busybox cat /home/bob/a; busybox touch /no || true\n",
        Item("a", b"mine\n"),
    )
    assert shop.output.startswith("501\n/home/bob\nmine\n")
    assert "Permission denied" in shop.output
    node = shop.tree(made).get(ROOT / "home" / "bob" / "a")
    assert node is not None and shop.tree(made).owner(node) == (501, 77)


def test_processes_that_a_step_leaves_behind_are_gone_before_it_is_sealed(shop: Shop) -> None:
    text = (
        "FROM box\nRUN (while :; do echo x >> /grow; done) & busybox sleep 0.1; echo done > /done\n"
    )
    made = shop.build(text)
    assert shop.text(made, "/done") == "done\n"
    assert list(verify(shop.graph.store)) == []


def test_a_step_without_a_change_adds_no_layer(shop: Shop) -> None:
    made = shop.build("FROM box\nRUN true\nRUN busybox ls / > /dev/null\n")
    assert len(shop.graph.images.details(made).manifest.layers) == 1
