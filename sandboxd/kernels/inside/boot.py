import sys

del sys.path[0]  # the working directory: nothing of ours comes from there

import importlib.abc
import importlib.util
import json
import os


def _exactly(size):
    parts = b""
    while len(parts) < size:
        part = os.read(0, size - len(parts))
        if not part:
            os._exit(0)
        parts += part
    return parts


def _line():
    line = b""
    while not line.endswith(b"\n"):
        line += _exactly(1)
    return line


class _Modules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules out of the bundle that came over stdin."""

    def __init__(self, sources):
        self._sources = sources

    def find_spec(self, name, path=None, target=None):
        if name not in self._sources:
            return None
        package = name == "sandboxd_kernel"
        return importlib.util.spec_from_loader(name, self, is_package=package)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        name = module.__name__
        exec(compile(self._sources[name], f"<{name}>", "exec"), module.__dict__)


sys.meta_path.insert(0, _Modules(json.loads(_exactly(int(_line())))))
