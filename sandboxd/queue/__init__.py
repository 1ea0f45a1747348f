"""The queue: Redis holds every job, and one Lua file owns every transition of it."""

from sandboxd.queue.answers import CancelOutcome, Event, Stats
from sandboxd.queue.queue import Queue

__all__ = ["CancelOutcome", "Event", "Queue", "Stats"]
