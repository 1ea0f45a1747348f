"""A job: the unit of work that the queue holds and a node claims."""

from msgspec import Struct

from sandboxd.model.limits import Limits
from sandboxd.model.parts import Together
from sandboxd.model.run import RunRequest
from sandboxd.model.stored import PoolBounds
from sandboxd.model.submission import Submission


class Job(Struct, frozen=True, kw_only=True):
    id: str
    tenant: str
    request: RunRequest
    template: str
    """Name of the template whose pool serves it."""
    limits: Limits
    compile_limits: Limits | None = None
    created_at: str
    """RFC 3339."""
    reply_to: str | None = None
    """Id of the gateway that waits for the result, or None."""
    reserve_cpu: int = 1000
    """Thousandths of a core held while it runs."""
    reserve_memory: int = 0
    """Bytes held while it runs."""
    node: str | None = None
    """The only node that may have it, since what it names is there; None: any."""
    pool: PoolBounds | None = None
    """How many sandboxes of `request.image` are kept built ahead; None: what was lately asked for."""
    submission: Submission | None = None
    """Set if the program is to be judged, on these cases, and not only run."""
    together: Together | None = None
    """Set if these commands, of which `request` is the first, are to run together."""
    exact_env: bool = False
    """Commands find the variables of their request and none of the sandbox's or the image's."""


class Lease(Struct, frozen=True, kw_only=True):
    """A claimed job. `attempt` fences every later transition of it."""

    job: Job
    attempt: int
    node: str


class Command(Struct, frozen=True, kw_only=True):
    """What the queue tells one node: `cancel` a job, or take a `job` that it was given unasked."""

    kind: str
    job: str
    lease: Lease | None = None
    """Of a `job`."""
