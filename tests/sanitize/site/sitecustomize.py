"""Puts the native core of another build in the place of the installed one, in every Python that has
this directory on PYTHONPATH: `NATIVE_BUILD` is the directory of that build."""

import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location


class _Build:
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != "sandboxd.native._native":
            return None
        return spec_from_file_location(name, f"{os.environ['NATIVE_BUILD']}/_native.abi3.so")


sys.meta_path.insert(0, _Build)  # type: ignore[arg-type]
