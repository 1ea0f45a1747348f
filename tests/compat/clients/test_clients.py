"""Other services' unmodified clients do with this one what they do with their own."""

import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.clients.conftest import JAVASCRIPT, PYTHON
from tests.patience import PATIENCE
from tests.service.instance import ROOT

pytestmark = [pytest.mark.root, pytest.mark.service]

SCRIPTS = ["with_e2b.py", "with_e2b_async.py", "with_code_interpreter.py", "with_e2b_oldest.py"]
WHOLE = (JAVASCRIPT / "node_modules").is_dir()
"""JavaScript's clients are installed, which takes a newer Node than some systems have."""
if WHOLE:
    SCRIPTS.append("with_javascript.mjs")
PAGE = ROOT / "docs/e2b.md"
BEGIN, END = "<!-- make compat writes this -->\n", "<!-- until here -->\n"


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_call_does_what_it_has_to(run: Callable[[str], dict[str, Any]], script: str) -> None:
    found = run(script)
    wrong = [row for row in found["rows"] if row[2]]
    assert not wrong, found["stderr"][-4000:]


def test_the_pages_program_runs_as_printed(environment: dict[str, str]) -> None:
    program = PAGE.read_text().partition("```python\n")[2].partition("```")[0]
    done = subprocess.run(
        [PYTHON, "-c", program], env=environment, capture_output=True, text=True,
        timeout=60 * PATIENCE, check=False,
    )  # fmt: skip
    assert done.stdout == "hi\n\n42\n", done.stderr[-4000:]


def test_at_least_as_many_calls_are_made_as_the_page_promises(
    run: Callable[[str], dict[str, Any]],
) -> None:
    assert sum(len(run(script)["rows"]) for script in SCRIPTS) >= 300


def test_the_page_shows_what_was_run(run: Callable[[str], dict[str, Any]]) -> None:
    """`COMPAT_WRITE=1 make compat` writes it anew."""
    tables = [f"{run(script)['client']}:\n\n{run(script)['table']}\n" for script in SCRIPTS]
    wanted = "\n" + "\n".join(tables) + "\n"
    text = PAGE.read_text()
    head, rest = text.split(BEGIN)
    shown, tail = rest.split(END)
    if os.environ.get("COMPAT_WRITE") and WHOLE:
        PAGE.write_text(head + BEGIN + wanted + END + tail)
    else:
        assert shown == wanted if WHOLE else shown.startswith(wanted[:-1])
