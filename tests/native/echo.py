"""Orders as they may be, and what `inside/echo.c` says of the one it was started with."""

import os
import struct

from hypothesis import strategies as st


def text(**options: int) -> st.SearchStrategy[str]:
    """Any string that the kernel can pass on: bytes without NUL, as Python spells them."""
    return st.binary(**options).map(lambda data: data.replace(b"\0", b"?")).map(os.fsdecode)


names = st.text("abcXYZ_é", min_size=1, max_size=12)


class Echo:
    """Reads what `inside/echo.c` wrote."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def item(self) -> bytes:
        (size,) = struct.unpack_from("<I", self._data, self._at)
        self._at += 4 + size
        return self._data[self._at - size : self._at]

    def number(self) -> int:
        return int.from_bytes(self.item(), "little")

    def items(self) -> list[bytes]:
        return [self.item() for _ in range(self.number())]

    @property
    def over(self) -> bool:
        return self._at == len(self._data)
