"""sandboxd: runs untrusted code for other programs in warm, single-use sandboxes."""

__version__ = "0.1.0"
