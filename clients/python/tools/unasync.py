"""Makes the blocking half of the sandbox API out of the asyncio one: `python tools/unasync.py`.

Only names and keywords differ between the two; what differs otherwise (sockets, local files) is in
modules with the same face. A test compares what is committed with what this makes.
"""

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "sandboxd_client"
MODULES = {
    "async_documents.py": "sync_documents.py",
    "async_sandbox.py": "sync_sandbox.py",
    "async_files.py": "sync_files.py",
    "async_resuming.py": "sync_resuming.py",
    "async_contexts.py": "sync_contexts.py",
    "async_tools.py": "sync_tools.py",
    "async_store.py": "sync_store.py",
}
_RULES = [
    (r"\bAsyncUpload\b", "SyncUpload"),
    (r"\bawrite\b", "write"),
    (r"\basync_(\w+)", r"sync_\1"),
    (r"\bAsyncGenerator\[(.+), None\]", r"Generator[\1, None, None]"),
    (r"\bAsync([A-Z]\w*)", r"\1"),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\baclosing\b", "closing"),
    (r"\baclose\b", "close"),
    (r"__aenter__", "__enter__"),
    (r"__aexit__", "__exit__"),
    (r"__aiter__", "__iter__"),
    # Last, since it names a file that is not converted.
    (r", for asyncio\. `sync_(\w+)` is made of this file, see tools/unasync\.py\.",
     r", for threads. Made of `async_\1` by tools/unasync.py: do not edit."),
]  # fmt: skip


def converted(source: str) -> str:
    for pattern, replacement in _RULES:
        source = re.sub(pattern, replacement, source)
    return _formatted(source)


def _formatted(source: str) -> str:
    for verb in (
        ["check", "-q", "--fix", "--unsafe-fixes", "--select", "I,UP028"],
        ["format", "-q"],
    ):
        command = [sys.executable, "-m", "ruff", *verb, "--stdin-filename",
                   str(PACKAGE / "sync_made.py"), "-"]  # fmt: skip
        done = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
        source = done.stdout
    return source


def main() -> None:
    for name, made in MODULES.items():
        text = converted((PACKAGE / name).read_text())
        (PACKAGE / made).write_text(text)


if __name__ == "__main__":
    main()
