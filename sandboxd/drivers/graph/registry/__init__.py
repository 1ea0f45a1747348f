"""The registry client: pulls and pushes images by the OCI distribution protocol, version 1.1."""

from sandboxd.drivers.graph.registry.client import Client
from sandboxd.drivers.graph.registry.names import RemoteName, remote_name
from sandboxd.drivers.graph.registry.transfer import Progress, pull, push

__all__ = ["Client", "Progress", "RemoteName", "pull", "push", "remote_name"]
