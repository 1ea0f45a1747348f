"""Which runs a warm interpreter may serve, and where it stands in the pool. Pure.

It has read its environment, looked for some files and taken its rlimits when it started, so a run
that wants others starts cold. Memory (unless its command names it), processes, CPU and wall time are
the control group's or ours, and may differ.
"""

from collections.abc import Iterable

from sandboxd.model import Job, Language, Limits, Warm, merge
from sandboxd.policy import Policies


def shelf_name(language: Language) -> str:
    """Name of the warm interpreters' shelf in the pool; no template can be called so."""
    return f"{language.template}+{language.name}"


def network_shelf(template: str) -> str:
    """Name of the shelf of a template's sandboxes that have a network; no template is called so."""
    return f"{template}~network"


def run_shelf(job: Job) -> str:
    """Where the sandbox comes from that a job's program, not its compiler, runs in."""
    return job.template if job.request.network == "none" else network_shelf(job.template)


def default_limits(policies: Policies, language: Language) -> Limits:
    """The limits of a run of this language that names none."""
    template = policies.templates[language.template]
    return merge(policies.limits.defaults, template.limits, language.limits)


def shelves(job: Job, language: Language | None, policies: Policies) -> tuple[str, ...]:
    """The shelves that the sandbox of the job's program, not of its compiler, may come from, the best
    first.

    The last is the template's own: its sandboxes are built soonest when none is ready.
    """
    if job.request.network == "none" and language is not None and language.warm is not None:
        started_with = default_limits(policies, language)
        if _serves(language.warm, job, started_with):
            return shelf_name(language), job.template
    return (run_shelf(job),)


def _serves(warm: Warm, job: Job, started_with: Limits) -> bool:
    """Whether the run wants nothing that the interpreter has decided when it started."""
    fixed = ["open_files", "stack", "disk"]
    if any("{memory}" in word for word in warm.command):
        fixed.append("memory")
    return (
        all(getattr(job.limits, name) == getattr(started_with, name) for name in fixed)
        and (warm.arguments or not job.request.args)
        and not _any_begins(job.request.env, warm.cold_env)
        and not _any_begins(job.request.files, warm.cold_files)
    )


def _any_begins(names: Iterable[str], prefixes: list[str]) -> bool:
    return any(name.startswith(tuple(prefixes)) for name in names)
