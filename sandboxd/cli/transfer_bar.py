"""How far a transfer is, on stderr."""

import sys
import threading

import click


class TransferBar:
    """How far the blobs of a transfer are: a bar on a terminal, a line per blob elsewhere."""

    def __init__(self, what: str) -> None:
        self._what, self._tty = what, sys.stderr.isatty()
        self._lock = threading.Lock()
        self._blobs: dict[str, tuple[int, int]] = {}

    def __call__(self, digest: str, done: int, total: int, /) -> None:
        with self._lock:
            if self._blobs.get(digest) == (total, total):
                return
            self._blobs[digest] = (done, total)
            if self._tty:
                self._draw()
            elif done == total:
                click.echo(f"{digest[7:19]}  {total / 1e6:.1f} MB", err=True)

    def _draw(self) -> None:
        done = sum(part for part, _ in self._blobs.values())
        total = sum(whole for _, whole in self._blobs.values()) or 1
        bar = ("#" * (done * 30 // total)).ljust(30, "-")
        click.echo(
            f"\r{self._what} [{bar}] {done / 1e6:.1f}/{total / 1e6:.1f} MB", err=True, nl=False
        )

    def __enter__(self) -> "TransferBar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._tty and self._blobs:
            click.echo(err=True)
