"""The README's programs work as printed."""

import re
from pathlib import Path

import pytest

PROGRAMS = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.S
)


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_of_the_readme_runs(service, monkeypatch, tmp_path, capsys, program):
    monkeypatch.setenv("SANDBOXD_URL", service.url)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README.md", "exec"), {"__name__": "__main__"})
    assert len(service.posted()) == 1


def test_readme_has_programs():
    assert len(PROGRAMS) == 3
