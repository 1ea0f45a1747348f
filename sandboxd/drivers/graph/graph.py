"""The graph driver of one installation: store, layers and images put together from the settings."""

from types import TracebackType

from sandboxd.drivers.graph.images import Images
from sandboxd.drivers.graph.layers import Layers
from sandboxd.drivers.graph.store import Store
from sandboxd.drivers.graph.unpack.parent import Limits
from sandboxd.settings import Settings


class Graph:
    def __init__(self, settings: Settings) -> None:
        """Raises DriverFault where the store cannot be opened. Unpacking needs root."""
        limits = Limits(settings.graph.layer_entries_max, settings.graph.layer_bytes_max)
        self.store = Store(settings.graph_path)
        self.uid_base = settings.graph.uid_base
        self.layers = Layers(self.store, limits, settings.graph.uid_base)
        self.images = Images(self.store, self.layers)

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> "Graph":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()
