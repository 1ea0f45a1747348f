"""What a script of the comparison is: a program and what belongs to it, run once warm and once cold.

Scripts are data. Nothing is said about what they print: a cold `python3 main.py` says it.
"""

import base64
import re
from dataclasses import dataclass, field
from typing import Any

Normal = tuple[str, str]
"""Regular expression and replacement, applied to both streams of both runs."""

ADDRESS: Normal = (r"0x[0-9a-f]{6,}", "0xADDRESS")
"""Where an object lies: the kernel puts every process elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    id: str
    source: str | None = None
    """Text of main.py or main.js; None if it is one of `files`."""
    language: str = "python"
    args: tuple[str, ...] = ()
    stdin: str | bytes = ""
    env: dict[str, str] = field(default_factory=dict)
    files: dict[str, str | bytes] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    status: str = "ok"
    """As a cold run must end, so that a script with a mistake of its own is not taken for a proof."""
    normal: tuple[Normal, ...] = ()
    why: str = ""
    """Why something has to be normalised, or why the output is different in every run."""
    warm: bool = True
    """False: it needs what an interpreter reads at its start, so even the first run must be cold."""
    random: bool = False
    """The output must differ in every run, in two warm ones too."""
    shared: bool = False
    """The output is random, but the copies of one zygote have it in common."""

    def __post_init__(self) -> None:
        if (self.normal or self.random or self.shared) and not self.why:
            raise ValueError(f"{self.id} needs a reason")

    def request(self, **env: str) -> dict[str, Any]:
        """Body of `POST /v1/runs`, with more variables than the script's own."""
        body: dict[str, Any] = {
            "language": self.language,
            "args": list(self.args),
            "stdin": _content(self.stdin) if isinstance(self.stdin, bytes) else self.stdin,
            "env": {**self.env, **env},
            "files": {path: _content(content) for path, content in self.files.items()},
            "limits": self.limits,
        }
        return body if self.source is None else {**body, "source": self.source}

    def normalised(self, stream: bytes) -> bytes:
        for pattern, replacement in self.normal:
            stream = re.sub(pattern.encode(), replacement.encode(), stream)
        return stream


def s(id: str, source: str | None = None, **more: Any) -> Script:
    """A script whose text may begin on the line after the quotes."""
    return Script(id=id, source=source if source is None else source.removeprefix("\n"), **more)


def _content(content: str | bytes) -> dict[str, str]:
    if isinstance(content, str):
        return {"text": content}
    return {"base64": base64.b64encode(content).decode()}
