"""libnftables, in process: a command or a file of them in, a word about the error out.

The library is `nft` itself (nftables project, libnftables(3)); its text language is what operators read,
so that `nft list ruleset` shows what was written here. What is put into a text comes from typed values:
addresses, numbers and names of our own making.
"""

import ctypes

from sandboxd.errors import DriverFault


class Nftables:
    """One context, of the network namespace that its maker was in. For one thread at a time."""

    def __init__(self) -> None:
        """Raises DriverFault where the library is not installed."""
        try:
            library = ctypes.CDLL("libnftables.so.1")
        except OSError as error:
            raise DriverFault("network", "load libnftables", str(error)) from error
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_ctx_free.argtypes = [ctypes.c_void_p]
        for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            function = getattr(library, name)
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_char_p
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self._library = library
        self._context = ctypes.c_void_p(library.nft_ctx_new(0))
        if not self._context:
            raise DriverFault("network", "open nftables", "no context")
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)

    def run(self, text: str) -> str:
        """What `nft` would print. The whole text takes effect, or nothing does. Raises DriverFault."""
        failed = self._library.nft_run_cmd_from_buffer(self._context, text.encode())
        output = self._library.nft_ctx_get_output_buffer(self._context) or b""
        error = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if failed:
            raise DriverFault("network", "nftables", error.decode(errors="replace").strip())
        return bytes(output).decode(errors="replace")

    def close(self) -> None:
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = ctypes.c_void_p(None)
