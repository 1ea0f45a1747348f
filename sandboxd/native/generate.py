"""Writes the C source of the cffi binding: `generate.py cdef.txt out.c`. Run by CMake."""

import sys
from pathlib import Path

from cffi import FFI

declarations, output = sys.argv[1:]
ffi = FFI()
ffi.cdef(Path(declarations).read_text())
ffi.set_source("sandboxd.native._native", '#include "host.h"', py_limited_api=True)
ffi.emit_c_code(output)
