"""What R is told, in its own words."""

import json

RESTORE = """local({
  kept <- getOption("sandboxd.kept")
  for (name in names(kept)) if (is.na(kept[[name]])) Sys.unsetenv(name) else
    do.call(Sys.setenv, stats::setNames(list(kept[[name]]), name))
})"""


def keep(env):
    """Put these into the environment, until `RESTORE`."""
    names = f"names({listed(env)})"
    return (
        f"options(sandboxd.kept = Sys.getenv({names}, NA, names = TRUE)); "
        f"do.call(Sys.setenv, {listed(env)})"
    )


def quoted(text):
    return json.dumps(text.replace("\0", ""), ensure_ascii=False)


def listed(env):
    return "list(" + ", ".join(f"`{name}`={quoted(value)}" for name, value in env.items()) + ")"
