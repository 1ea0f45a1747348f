"""Which runs a warm interpreter may serve, and where it stands in the pool. Pure.

It has read its environment, looked for some files and taken its rlimits when it started, so a run
that wants others starts cold. Memory, processes, CPU and wall time are the control group's or ours,
and may differ.
"""

from collections.abc import Iterable

from sandboxd.model import Job, Language, Limits, merge
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
    """The shelves that the job's first sandbox may come from, the best first.

    The last is the template's own: its sandboxes are built soonest when none is ready.
    """
    cold_only = (run_shelf(job),)
    if job.request.network != "none":
        compiles = language is not None and language.compile is not None
        return (job.template,) if compiles else cold_only
    if language is None or language.warm is None or language.compile is not None:
        return cold_only
    started_with = default_limits(policies, language)
    same = all(
        getattr(job.limits, name) == getattr(started_with, name)
        for name in ("open_files", "stack", "disk")
    )
    read = _any_begins(job.request.env, language.warm.cold_env) or _any_begins(
        job.request.files, language.warm.cold_files
    )
    return (shelf_name(language), job.template) if same and not read else cold_only


def _any_begins(names: Iterable[str], prefixes: list[str]) -> bool:
    return any(name.startswith(tuple(prefixes)) for name in names)
