"""The report of a directory of results: one Markdown file, and one HTML file that needs no other."""

import re
from pathlib import Path

from markdown_it import MarkdownIt

PARTS = ("bench", "warm", "judge", "sessions", "e2b", "network", "growth")
"""What the verbs write, `NAME.md` each, in the order of the report."""
_TITLES = {
    "judge": "Judging",
    "sessions": "Sandboxes that live",
    "e2b": "E2B's client",
    "network": "Networks",
}
_PICTURE = re.compile(r'<p><img src="([a-z]+\.svg)" alt="([^"]*)" /></p>')
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76em; margin: 2em auto; color: #222 }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin: 1em 0 }
th, td { padding: .25em .7em; border-bottom: 1px solid #ddd; white-space: nowrap }
th { text-align: left; background: #f5f5f5 }
code { background: #f5f5f5; padding: 0 .2em }
figure { margin: 1em 0; overflow-x: auto }
svg { max-width: 100%; height: auto }
"""


class NoResultsError(Exception):
    """The directory holds no results."""


def write(directory: Path) -> None:
    """`report.md` and `report.html` of what is there. Raises NoResultsError."""
    text = markdown(directory)
    (directory / "report.md").write_text(text)
    (directory / "report.html").write_text(html(text, directory))


def markdown(directory: Path) -> str:
    parts = [
        (name, (directory / f"{name}.md").read_text().strip())
        for name in PARTS
        if (directory / f"{name}.md").exists()
    ]
    if not parts:
        raise NoResultsError(f"no results; expected {', '.join(f'{name}.md' for name in PARTS)}")
    return "\n\n".join(
        f"# {_TITLES[name]}\n\n{text}" if name in _TITLES else text for name, text in parts
    ) + "\n"  # fmt: skip


def html(text: str, directory: Path) -> str:
    """`text` in one file; the pictures that it names lie in `directory` and become part of it."""
    # Text of the machine's is among it: nothing of it is taken as HTML.
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)

    def drawn(found: re.Match[str]) -> str:
        picture = (directory / found[1]).read_text()
        return f"<figure>{picture[picture.index('<svg') :]}</figure>"

    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>sandboxd: benchmarks</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{_PICTURE.sub(drawn, body)}</body></html>\n"
    )
