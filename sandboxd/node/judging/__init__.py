"""Judging on this node: a submission's programs, each in a sandbox of its own, and their verdicts."""

from sandboxd.node.judging.judge import Judge, Reported
from sandboxd.node.judging.parts import Parts

__all__ = ["Judge", "Parts", "Reported"]
