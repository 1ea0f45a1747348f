"""The transitions as Redis knows them: two scripts of one text, called by hash."""

from hashlib import sha1
from pathlib import Path

_TEXT = Path(__file__).with_name("transitions.lua").read_bytes()


class Script:
    """A script's text and the hash by which the server remembers it."""

    def __init__(self, flags: bytes, text: bytes = _TEXT) -> None:
        self.text = b"#!lua" + flags + b"\n" + text
        self.sha = sha1(self.text, usedforsecurity=False).hexdigest()


GROWING = Script(b"")
"""Refused by a server whose memory is full: for submit alone."""
SETTLING = Script(b" flags=allow-oom")
"""Allowed then too, or a full server could never finish what it has accepted."""
