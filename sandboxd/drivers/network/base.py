"""The network driver: the namespaces that sandboxes are put into. Others fit beside `none`."""

from typing import Protocol


class Slot(Protocol):
    """A network namespace for one sandbox at a time."""

    @property
    def fd(self) -> int:
        """Descriptor of the namespace, owned by the driver."""


class Network(Protocol):
    def take(self) -> Slot:
        """A namespace that nobody is in; may block for a millisecond or two.

        Raises NativeFault, DriverFault, or Overload if there is none left.
        """

    def give_back(self, slot: Slot) -> None:
        """Its sandbox was seen to be gone. May block as `take`."""

    def traffic(self, slot: Slot) -> tuple[int, int]:
        """Bytes that its sandbox has sent and got. May block as `take`. Raises DriverFault."""

    def close(self) -> None:
        """Drop every slot; none may be taken."""
