"""The programs of docs/contexts.md, run as printed (but for the port, which is the test service's)."""

import re
from pathlib import Path

import pytest

from sandboxd.mcp.server import make_server
from sandboxd.model.context import ContextLanguage, EndStatus, Shown
from tests.docs.test_readme import ROOT, run
from tests.service.instance import Service

PAGE = (ROOT / "docs/contexts.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.root
@pytest.mark.service
def test_every_program_does_what_the_page_says(service: Service, tmp_path: Path) -> None:
    python, shell = (run(kind, text, service, tmp_path) for kind, text in BLOCKS)
    assert python.splitlines() == [
        "of 5 3", "error IndexError", "('text', 'png', 'chart') bar b'\\x89PNG'",
        "heard b'0\\n1\\n2\\n'",
    ]  # fmt: skip
    assert '"text":"40"' in shell and '"stdout":"/tmp\\n"' in shell
    assert [shell.count(f'"type":"{kind}"') for kind in ("started", "end")] == [1, 1]


def test_the_page_names_every_language_status_and_format() -> None:
    formats = set(Shown.__struct_fields__) - {"run"}
    for word in {*ContextLanguage, *EndStatus, *formats}:
        assert f"`{word}`" in PAGE, word


async def test_the_page_of_mcp_names_every_tool() -> None:
    page = (ROOT / "docs/mcp.md").read_text()
    for tool in await make_server(lambda _: pytest.fail("no call")).list_tools():
        assert f"`{tool.name}`" in page
