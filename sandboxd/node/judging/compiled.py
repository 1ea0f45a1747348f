"""A program as it runs: what its compiler made of it, or itself."""

from msgspec import Struct

from sandboxd.model import Outcome, Status
from sandboxd.node.judging.program import Files


class Compiled(Struct, frozen=True, kw_only=True):
    outcome: Outcome | None
    """None: the language does not compile."""
    files: Files
    """What a sandbox needs to run it."""
    layers: frozenset[str] = frozenset()

    @property
    def ok(self) -> bool:
        return self.outcome is None or self.outcome.status is Status.OK
