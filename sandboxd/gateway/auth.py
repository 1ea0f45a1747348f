"""Who is asking: Bearer keys of the keys file, and the tenant each belongs to.

The file has one `tenant:sha256-hex-of-key` per line; `#` starts a comment. A tenant may have several
keys at once, so that one can be replaced and then struck out while the other serves. It is read again
when it changes. A file that has become unreadable or wrong leaves the last good keys in force, and says
so in the log: a slip of the operator's hand must not lock everybody out.
"""

import hashlib
import hmac
import logging
import re
from pathlib import Path

from sandboxd.settings import SettingsError

log = logging.getLogger(__name__)

DEFAULT_TENANT = "default"
_LINE = re.compile(r"([a-z0-9][a-z0-9+_.-]{0,63}):([0-9a-fA-F]{64})")


class Keys:
    """The keys of one file; `Keys("")` is the service without keys."""

    def __init__(self, file: str) -> None:
        """Raises SettingsError if there is a file and it cannot be used."""
        self._path = Path(file) if file else None
        self._keys: list[tuple[bytes, str]] = []
        self._stamp: tuple[int, int, int] | None = None
        self._complaint = ""
        if self._path is not None:
            self._stamp = _stamp(self._path)
            self._keys = _read(self._path)

    @property
    def required(self) -> bool:
        return self._path is not None

    def check_readable(self) -> None:
        """Raises SettingsError unless this process could read the file again."""
        if self._path is not None:
            _read(self._path)

    def tenant(self, authorization: str | None) -> str | None:
        """The tenant of an Authorization header, or None if it proves nobody."""
        if self._path is None:
            return DEFAULT_TENANT
        scheme, _, key = (authorization or "").partition(" ")
        presented = hashlib.sha256(key.strip().encode("latin-1", "replace")).digest()
        found = None
        # No early exit: the time must not say how many keys came before the right one.
        for digest, tenant in self._keys:
            if hmac.compare_digest(digest, presented):
                found = tenant
        return found if scheme.lower() == "bearer" else None

    def reload_if_changed(self, *, force: bool = False) -> None:
        """Read the file again if its time, size or inode changed; see the module on bad files.

        Blocks for the file's I/O; may be called from any thread.
        """
        if self._path is None:
            return
        try:
            stamp = _stamp(self._path)
            if stamp != self._stamp or force:
                self._keys = _read(self._path)
                self._stamp = stamp
            self._complaint = ""
        except SettingsError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                log.error("the keys from before stay in force: %s", error)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise SettingsError(f"gateway.keys_file: {error}") from error
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> list[tuple[bytes, str]]:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"gateway.keys_file: {error}") from error
    keys: dict[bytes, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        match = _LINE.fullmatch(entry)
        if match is None:
            raise SettingsError(f"gateway.keys_file: line {number} is not tenant:sha256-hex")
        digest, tenant = bytes.fromhex(match[2]), match[1]
        if keys.setdefault(digest, tenant) != tenant:
            raise SettingsError(f"gateway.keys_file: line {number} is another tenant's key")
    if not keys:
        raise SettingsError("gateway.keys_file: there is no key in it")
    return list(keys.items())
