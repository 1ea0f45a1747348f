"""Which policies this node offers, with their rules written ahead."""

import logging

from sandboxd.drivers.network.egress import EgressNetwork
from sandboxd.egress_files import EgressFiles, Policies
from sandboxd.errors import DriverFault, InvalidRequest, SandboxdError
from sandboxd.model.egress import (
    EgressPolicy,
    NetworkRequest,
    SandboxNetwork,
    narrowed,
    remaining,
)

log = logging.getLogger(__name__)

Asked = str | NetworkRequest | SandboxNetwork

CUT_OFF = EgressPolicy(name="none")
"""What a sandbox that was built with a network has when it is to have none."""


class Offered:
    def __init__(self, files: EgressFiles, driver: EgressNetwork) -> None:
        """Raises DriverFault where the rules cannot be written."""
        self._files, self._driver = files, driver
        driver.keep(CUT_OFF)  # there is always a group left to cut one off
        self._kept = self._write(files.policies)

    def wanted(self, asked: Asked) -> EgressPolicy:
        """What is to hold for who asks so. Raises InvalidRequest: there need not be any more what the
        gateway has seen."""
        policy = self._named(asked)
        if policy is None:
            raise InvalidRequest(f"there is no network {_name(asked)!r} any more", field="network")
        if isinstance(asked, str) or asked.allow is None:
            return policy
        try:
            return narrowed(policy, asked.allow)
        except ValueError as error:
            raise InvalidRequest(str(error), field="network.allow") from None

    def still(self, asked: Asked) -> EgressPolicy | None:
        """The same, as far as it is offered today; None if its policy is gone."""
        policy = self._named(asked)
        if policy is None or isinstance(asked, str) or asked.allow is None:
            return policy
        return remaining(policy, asked.allow)

    def reread(self) -> bool:
        """Whether there are others now. Blocks for I/O and the firewall."""
        return self._files.reread(self._accept)

    def _named(self, asked: Asked) -> EgressPolicy | None:
        name = _name(asked)
        return CUT_OFF if name == CUT_OFF.name else self._files.policies.get(name)

    def _accept(self, policies: Policies) -> None:
        former, self._kept = self._kept, self._write(policies)
        self._drop(former)

    def _write(self, policies: Policies) -> list[int]:
        kept: list[int] = []
        try:
            for policy in policies.values():
                kept.append(self._driver.keep(policy))
        except SandboxdError:
            self._drop(kept)
            raise
        return kept

    def _drop(self, groups: list[int]) -> None:
        for group in groups:
            try:
                self._driver.unkeep(group)
            except DriverFault as error:  # nobody is under them any more
                log.warning("rules of a former policy stay: %s", error)


def _name(asked: Asked) -> str:
    return asked if isinstance(asked, str) else asked.policy
