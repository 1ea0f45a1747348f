"""All scripts of the comparison, in the order of their themes."""

from tests.warm.scripts import (
    chance,
    endings,
    errors,
    exits,
    identity,
    imports,
    limits,
    output,
    processes,
    sources,
    stdin,
    surroundings,
)

THEMES = (
    identity, stdin, output, exits, errors, processes, surroundings, imports, sources, limits, chance,
    endings,
)  # fmt: skip

SCRIPTS = [script for theme in THEMES for script in theme.SCRIPTS]
