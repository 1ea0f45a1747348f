"""The files of `policies/egress/` as a process has them: read at its start, and again when it is told to.

Gateway and node both read them, and each keeps all that it had as soon as one file makes no sense: a slip
of the operator's hand neither opens nor closes anything.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from sandboxd import policy
from sandboxd.errors import SandboxdError
from sandboxd.model.egress import EgressPolicy
from sandboxd.settings import MacvlanSettings, SettingsError

log = logging.getLogger(__name__)

Policies = Mapping[str, EgressPolicy]


class EgressFiles:
    def __init__(
        self, directory: Path, policies: Policies, lans: Mapping[str, MacvlanSettings]
    ) -> None:
        """`policies` are those that were read from `directory` at the start; `lans` as for them."""
        self._directory, self._lans = directory, lans
        self.policies = dict(policies)
        """By name. Another object after each change."""
        self._attached = _attached(policies)

    def reread(self, accept: Callable[[Policies], None] = lambda policies: None) -> bool:
        """Whether they have changed; what did, or why all of it stays, is in the log. `accept` sees them
        first, and may raise a SandboxdError against them. Blocks for the files' I/O."""
        try:
            found = self._read()
            difference = changes(self.policies, found)
            if difference:
                accept(found)
        except SandboxdError as error:
            log.error("the network policies from before stay in force: %s", error)
            return False
        log.info("network policies: %s", difference or "nothing has changed")
        self.policies = found
        return bool(difference)

    def _read(self) -> dict[str, EgressPolicy]:
        """Raises SettingsError."""
        try:
            next(
                self._directory.iterdir(), None
            )  # one that cannot be looked into is not an empty one
        except OSError as error:
            raise SettingsError(str(error)) from error
        found = policy.egress(self._directory, self._lans)
        # Certificates are made, and secrets chosen, when a node starts.
        for domain, secret in sorted(_attached(found) - self._attached):
            raise SettingsError(
                f"attach: {secret} for {domain} was nowhere at the start, and needs a restart"
            )
        return found


def changes(before: Policies, after: Policies) -> str:
    """What is another, new and gone, in words; empty if nothing is."""
    differing = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    found = (
        ("changed", differing),
        ("new", after.keys() - before.keys()),
        ("removed", before.keys() - after.keys()),
    )
    return "; ".join(f"{word} {', '.join(sorted(names))}" for word, names in found if names)


def _attached(policies: Policies) -> set[tuple[str, str]]:
    return {(each.domain, each.secret) for one in policies.values() for each in one.attach}
