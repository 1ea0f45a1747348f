"""What became of each call of a client: printed as they go, and as one table at the end."""

import asyncio
import json
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

CALL_LIMIT = 30.0
"""Seconds after which a call counts as a hang."""


class Table:
    def __init__(self, client: str) -> None:
        self.client = client
        self.rows: list[tuple[str, str, str]] = []
        """Area, call, and what was wrong: nothing, if it was as it has to be."""
        self.area = ""

    def __call__(self, name: str, call: Callable[[], Any], wanted: Any = None) -> Any:
        """Make a call. `wanted` is its value, or says of a value whether it is right; None: any."""
        began = time.monotonic()
        try:
            value = call()
        except Exception as error:
            self._note(name, f"{type(error).__name__}: {error}")
            traceback.print_exc(limit=3)
            return None
        self._note(name, _wrong(value, wanted) or _late(began))
        return value

    def raises(
        self, name: str, call: Callable[[], Any], kind: type[BaseException], words: str = ""
    ) -> None:
        """A call that has to fail, with this exception of the client's and these words."""
        began = time.monotonic()
        try:
            value = call()
        except kind as error:
            self._note(name, _late(began) if words in str(error) else f"says {error}")
        except Exception as error:
            self._note(name, f"{type(error).__name__} instead of {kind.__name__}: {error}")
        else:
            self._note(name, f"gave {value!r} instead of {kind.__name__}")

    async def wait(self, name: str, call: Callable[[], Awaitable[Any]], wanted: Any = None) -> Any:
        try:
            value = await asyncio.wait_for(call(), CALL_LIMIT)
        except Exception as error:
            self._note(name, f"{type(error).__name__}: {error}")
            traceback.print_exc(limit=3)
            return None
        self._note(name, _wrong(value, wanted))
        return value

    async def fails(
        self,
        name: str,
        call: Callable[[], Awaitable[Any]],
        kind: type[BaseException],
        words: str = "",
    ) -> None:
        try:
            value = await asyncio.wait_for(call(), CALL_LIMIT)
        except kind as error:
            self._note(name, "" if words in str(error) else f"says {error}")
        except Exception as error:
            self._note(name, f"{type(error).__name__} instead of {kind.__name__}: {error}")
        else:
            self._note(name, f"gave {value!r} instead of {kind.__name__}")

    def _note(self, name: str, wrong: str) -> None:
        self.rows.append((self.area, name, wrong))
        if wrong:
            print(f"WRONG {self.area}: {name}: {wrong}", file=sys.stderr)

    @property
    def wrong(self) -> list[str]:
        return [f"{area}: {name}: {wrong}" for area, name, wrong in self.rows if wrong]

    def markdown(self) -> str:
        """A line per area: how many calls were made, which, and how many were right."""
        lines = ["| area | calls | right | what |", "|---|---|---|---|"]
        for area in dict.fromkeys(row[0] for row in self.rows):
            of_it = [row for row in self.rows if row[0] == area]
            right = sum(not wrong for _, _, wrong in of_it)
            names = ", ".join(dict.fromkeys(f"`{name.partition(' ')[0]}`" for _, name, _ in of_it))
            lines.append(f"| {area} | {len(of_it)} | {right} | {names} |")
        return "\n".join(lines)

    def finish(self, file: str | None) -> int:
        """Print the table, and write it down for whoever asked. The exit status."""
        right = len(self.rows) - len(self.wrong)
        print(self.markdown())
        print(f"\n{self.client}: {right} of {len(self.rows)} calls were right")
        if file is not None:
            document = {"client": self.client, "rows": self.rows, "table": self.markdown()}
            Path(file).write_text(json.dumps(document))
        return 1 if self.wrong else 0


def _late(began: float) -> str:
    took = time.monotonic() - began
    return f"took {took:.0f} seconds" if took > CALL_LIMIT else ""


def _wrong(value: Any, wanted: Any) -> str:
    if wanted is None:
        return ""
    right = wanted(value) if callable(wanted) and not isinstance(wanted, type) else value == wanted
    return "" if right else f"gave {value!r}"
