"""Images of tenants: whose a name is, and how much a tenant may have."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandboxd.drivers.graph import tenancy
from sandboxd.drivers.graph.graph import Graph
from sandboxd.errors import QuotaExceeded
from tests.drivers.graph.archives import Item, archive, d
from tests.drivers.graph.test_store import image

AT_ONCE, ROOM = 8, 3


def _layer(number: int) -> bytes:
    return archive([d("."), Item(f"f{number}", b"x" * 1000)])


def test_images_named_at_once_do_not_pass_the_quota_together(graph: Graph) -> None:
    with graph.store.leasing() as lease:
        digests = [image(graph, lease, _layer(number)) for number in range(AT_ONCE)]
        most = ROOM * max(graph.images.details(each).manifest.layers[0].size for each in digests)
        together = threading.Barrier(AT_ONCE)

        def give(number: int) -> bool:
            together.wait()
            try:
                tenancy.give(graph.images, "acme", f"i{number}", digests[number], most)
            except QuotaExceeded:
                return False
            return True

        with ThreadPoolExecutor(AT_ONCE) as pool:
            given = list(pool.map(give, range(AT_ONCE)))
        assert sum(given) == ROOM
        assert sum(not shared for *_, shared in tenancy.visible(graph.images, "acme")) == ROOM
        # Another tenant's are not counted with them.
        tenancy.give(graph.images, "other", "i", digests[0], most)


def test_a_layer_is_counted_once_and_a_name_that_changes_gives_its_room_back(graph: Graph) -> None:
    with graph.store.leasing() as lease:
        one, two = image(graph, lease, _layer(1)), image(graph, lease, _layer(1), _layer(2))
        most = sum(layer.size for layer in graph.images.details(two).manifest.layers)
        other = image(graph, lease, _layer(3), _layer(4))
        tenancy.give(graph.images, "acme", "one", one, most)
        tenancy.give(graph.images, "acme", "two", two, most)
        with pytest.raises(QuotaExceeded):
            tenancy.give(graph.images, "acme", "other", other, most)
        graph.store.untag(tenancy.stored_name("acme", "one"))
        tenancy.give(graph.images, "acme", "two", other, most)
        assert tenancy.resolve(graph.images, "acme", "two") == other
