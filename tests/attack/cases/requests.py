"""Hostile documents: each is refused in words, or runs without harm."""

import json
from typing import Any

from tests.attack.judging import Document

_REFUSED = (400, 413, 422)
_EITHER = (200, 400, 413, 422)


def _sent(id_: str, promise: str, body: Any, statuses: tuple[int, ...] = _REFUSED) -> Document:
    return Document(f"request-{id_}", promise, json.dumps(body).encode(), statuses)


def _raw(id_: str, promise: str, content: bytes, statuses: tuple[int, ...] = _REFUSED) -> Document:
    return Document(f"request-{id_}", promise, content, statuses)


def _true(**more: Any) -> dict[str, Any]:
    return {"template": "default", "command": ["true"], **more}


_PATHS = {
    "absolute": "/etc/passwd",
    "up": "../../etc/passwd",
    "up-inside": "a/../../b",
    "dot": "./a",
    "empty": "",
    "empty-part": "a//b",
    "slash": "a/",
    "nul": "a\0b",
    "long": "a" * 2_000,
    "long-part": "a" * 256,
    "surrogate": "a\ud800",
}

CASES = (
    *(
        _sent(f"file-{name}", "no file outside /work", _true(files={path: {"text": "x"}}))
        for name, path in _PATHS.items()
    ),
    *(
        _sent(f"collect-{name}", "nothing is read outside /work", _true(collect=[path]))
        for name, path in _PATHS.items()
    ),
    _sent("file-proc", "a file named like a part of /proc stays below /work",
          _true(files={"proc/self/mem": {"text": "x"}}), (200,)),
    _sent("file-twice", "a path that is a file and a directory",
          _true(files={"a": {"text": "x"}, "a/b": {"text": "y"}})),
    _sent("file-base64", "text that is not base64", _true(files={"a": {"base64": "!"}})),
    _sent("file-both", "two contents", _true(files={"a": {"text": "x", "base64": "eA=="}})),
    _sent("command-empty", "an empty command", _true() | {"command": []}),
    _sent("command-nothing", "an empty program name", _true() | {"command": [""]}),
    _sent("command-nul", "a NUL in an argument", _true() | {"command": ["a\0b"]}),
    _sent("command-surrogate", "half a character", _true() | {"command": ["\ud800"]}),
    _sent("command-shell", "shell characters are characters",
          _true() | {"command": ["$(touch /tmp/x);`id`|&>"]}, (200,)),
    _sent("command-directory", "a directory is no program", _true() | {"command": ["/work"]}, (200,)),
    _sent("command-init", "nor is init", _true() | {"command": ["/proc/1/exe"]}, (200,)),
    _sent("command-fd", "nor is a descriptor of the runner",
          _true() | {"command": ["/proc/self/fd/3"]}, (200,)),
    _sent("arguments-many", "too many arguments", _true(args=["x"] * 10_000)),
    _sent("arguments-large", "arguments that are too large", _true(args=["x" * 131_071] * 60), _EITHER),
    _sent("env-name", "a variable's name with =", _true(env={"A=B": "x"})),
    _sent("env-nul", "a NUL in a variable", _true(env={"A": "x\0y"})),
    _sent("env-preload", "the loader's variables reach no process of ours",
          _true(env={"LD_PRELOAD": "/work/evil.so", "LD_AUDIT": "/work/evil.so"}), (200,)),
    _sent("env-path", "nor does PATH", _true(env={"PATH": "/work:::/nonexistent"}), (200,)),
    _sent("limits-zero", "no limit of zero", _true(limits={"memory": 0})),
    _sent("limits-negative", "no negative limit", _true(limits={"wall_time": -1})),
    _sent("limits-huge", "no limit above the maximum", _true(limits={"memory": 1 << 62})),
    _sent("limits-more", "nor above 64 bits", _true(limits={"pids": 1 << 80})),
    _raw("limits-nan", "nor one that is no number",
         b'{"template": "default", "command": ["true"], "limits": {"wall_time": NaN}}'),
    _raw("limits-infinite", "nor an infinite one",
         b'{"template": "default", "command": ["true"], "limits": {"wall_time": 1e999}}'),
    _sent("limits-unknown", "nor an unknown one", _true(limits={"root": 1})),
    _sent("limits-smallest", "the smallest limits are an end of the job's",
          _true(limits={"memory": 4096, "disk": 4096, "pids": 1, "open_files": 8, "stack": 65_536}),
          (200,)),
    _sent("field-unknown", "no unknown field", _true(privileged=True)),
    _sent("field-uid", "no field for the uid", _true(user="root")),
    _sent("network-host", "no network of the host", _true(network="host")),
    _sent("template-path", "a template is no path", _true() | {"template": "../../etc/passwd"}),
    _sent("language-path", "nor is a language", {"language": "../default", "source": "x"}),
    _sent("compile-plugin", "a compiler's plugin is code in a sandbox",
          {"language": "c", "source": "int main(){}", "compile_args": ["-fplugin=./main.c"]}, (200,)),
    _sent("compile-include", "a compiler reads what the job may read",
          {"language": "c", "source": "#include \"/opt/attack/secret\"\nint main(){}"}, (200,)),
    _sent("compile-incbin", "an assembler too",
          {"language": "c", "source": "__asm__(\".incbin \\\"/etc/shadow\\\"\"); int main(){}"}, (200,)),
    _sent("compile-at-file", "a response file too",
          {"language": "c", "source": "int main(){}", "compile_args": ["@/opt/attack/secret"]}, (200,)),
    _sent("compile-output", "a compiler writes where the job may write",
          {"language": "c", "source": "int main(){}", "compile_args": ["-o", "/usr/bin/env"]}, (200,)),
    _raw("nothing", "an empty body", b""),
    _raw("not-json", "a body that is no JSON", b"\x00\x01\x02"),
    _raw("array", "a body that is no object", b"[]"),
    _raw("half", "half a body", b'{"template": "def'),
    _raw("twice", "a field twice", b'{"template":"default","command":["true"],"command":["false"]}',
         _EITHER),
    _raw("deep-json", "depth that would end a recursive parser", b"[" * 100_000 + b"]" * 100_000),
    _raw("deep-field", "the same in a field",
         b'{"command":' + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    _raw("utf16", "another encoding", '{"template": "default"}'.encode("utf-16")),
    Document("request-type", "another content type", b"template=default", (400, 413, 415, 422),
             "application/x-www-form-urlencoded"),
    _sent("stdin-both", "stdin for an interactive run", _true(interactive=True, stdin="x")),
    _sent("files-many", "too many files",
          _true(files={f"f{n}": {"text": ""} for n in range(2_000)})),
    _sent("files-large", "files that do not fit",
          _true(files={"a": {"text": "x" * 100_000}}, limits={"disk": 65_536})),
)  # fmt: skip
