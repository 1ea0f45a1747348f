"""The programs of docs/agents.md, run as printed (but for the port, which is the test service's)."""

import re
from pathlib import Path

import pytest

from tests.docs.test_readme import ROOT, run
from tests.service.instance import Service

pytestmark = [pytest.mark.root, pytest.mark.service]

PAGE = (ROOT / "docs/agents.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def outputs(service: Service, tmp_path: Path) -> list[str]:
    return [run(kind, text, service, tmp_path) for kind, text in BLOCKS]


def test_every_program_does_what_the_page_says(outputs: list[str]) -> None:
    first, shell, http, tools = outputs
    assert "heard '1\\n2\\n3\\n'" in first and "0 ['1', '2', '3'] True" in first
    assert first.rstrip().endswith("6")
    assert shell.startswith("HELLO\n") and "./copied" in shell
    assert '"stdout":"out\\n","stderr":"err\\n"' in http
    assert [http.count(f'"type":"{kind}"') for kind in ("started", "exit")] == [1, 1]
    assert '"reason":"killed"' in http
    assert "run_code" in tools and "42" in tools and "1000" in tools


@pytest.mark.parametrize("code", sorted(set(re.findall(r"`([a-z]+_[a-z_]+)`", PAGE))))
def test_every_word_that_the_page_uses_is_one_of_the_services(code: str) -> None:
    sources = [*(ROOT / "sandboxd").rglob("*.py"), *(ROOT / "clients/python").rglob("*.py")]
    assert any(re.search(rf"\b{code}\b", path.read_text()) for path in sources)
