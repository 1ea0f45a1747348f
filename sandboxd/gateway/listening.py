"""The address that the gateway listens on."""

import ipaddress
import os
import socket
import stat
from pathlib import Path

from msgspec import Struct

from sandboxd.settings import SettingsError

_BACKLOG = 4_096
# A peer that vanished without a word is noticed after idle + count x interval = 60 s.
_KEEP_ALIVE = (
    (socket.TCP_KEEPIDLE, 30),
    (socket.TCP_KEEPINTVL, 10),
    (socket.TCP_KEEPCNT, 3),
)


class Address(Struct, frozen=True):
    """`host:port` or `unix:/path`; exactly one is set."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_local(self) -> bool:
        """Only this machine can connect. A name other than `localhost` is not trusted to be."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse(listen: str) -> Address:
    """Raises SettingsError."""
    if listen.startswith("unix:"):
        path = listen.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path:
            raise SettingsError(f"gateway.listen: {listen}: the path must be absolute")
        return Address(path=path)
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise SettingsError(f"gateway.listen: {listen}: expected host:port or unix:/path")
    return Address(host=host, port=int(port))


def check_exposure(address: Address, has_keys: bool) -> None:
    """Raises SettingsError if strangers could reach a service without keys."""
    if not address.is_local and not has_keys:
        raise SettingsError(
            f"gateway.listen: {address.host} can be reached from other machines, which needs API "
            "keys: set gateway.keys_file"
        )


def bind(address: Address, group: int) -> socket.socket:
    """The listening socket; a unix socket is left to root and `group`. Raises SettingsError."""
    try:
        return _unix(address.path, group) if address.path else _tcp(address)
    except OSError as error:
        where = address.path or f"{address.host}:{address.port}"
        raise SettingsError(f"gateway.listen: {where}: {error.strerror or error}") from error


def _tcp(address: Address) -> socket.socket:
    family, kind, protocol, _, target = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in _KEEP_ALIVE:
            listener.setsockopt(socket.IPPROTO_TCP, option, seconds)
        listener.bind(target)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _unix(path: str, group: int) -> socket.socket:
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Between bind and chmod nobody else may connect.
    mask = os.umask(0o177)
    try:
        listener.bind(path)
        if os.geteuid() == 0:
            os.chown(path, -1, group)
        Path(path).chmod(0o660)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def _remove_stale(path: str) -> None:
    """Remove the socket of a process that is gone; anything else there is an error of bind."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
