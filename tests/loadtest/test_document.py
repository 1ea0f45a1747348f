from pathlib import Path

import pytest
from test_bench import measured

from loadtest import bench, cell, document, headline, host, plot, report
from loadtest.report import Report

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "docs/benchmarks/bench.json"


def made(**changes: object) -> Report:
    results = {
        (name, clients, peer): [measured(10, milliseconds), measured(12, milliseconds)]
        for name in ("compiled", "python")
        for clients in (1, 8)
        for peer, milliseconds in (("bare", 2.0), ("sandboxd", 3.0))
    }
    facts = host.Host(
        date="2026-01-01 00:00 UTC", commit="abc", cpu="<b>x86</b>", cores=2, memory=1 << 30,
        kernel="6", system="Debian", load=0.1,
    )  # fmt: skip
    return Report(
        host=facts, plan=bench.Plan(clients=(1, 8)), workloads={"compiled": "C", "python": "P"},
        peers={"bare": "none", "sandboxd": "ours"}, compiler="cc", command="make bench", stolen=0.0,
        notes=[], cells=cell.cells(results),
    )  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Path:
    plot.write(made(), tmp_path / "bench.svg")
    (tmp_path / "bench.md").write_text(report.markdown(made(), "bench.svg"))
    (tmp_path / "bench.json").write_bytes(report.json(made()))
    (tmp_path / "judge.md").write_text("| a | b |\n|---|---|\n| 1 | 2 |\n")
    return tmp_path


def test_one_file_of_html_holds_everything(results: Path) -> None:
    document.write(results)
    text = (results / "report.html").read_text()
    assert text.count("<svg") == 1 and "<img" not in text and "http-equiv" not in text
    assert "<script" not in text and 'src="' not in text and "@import" not in text
    assert "<h1>Judging</h1>" in text and "<td>2</td>" in text
    assert "&lt;b&gt;x86&lt;/b&gt;" in text  # what the machine says of itself is text
    assert "make bench" in text and "abc" in text and "2026-01-01" in text
    assert "# Judging" in (results / "report.md").read_text()


def test_the_same_results_make_the_same_picture(results: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.svg"
    plot.write(made(), again)
    assert again.read_bytes() == (results / "bench.svg").read_bytes()


def test_a_directory_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(document.NoResultsError, match=r"bench\.md"):
        document.write(tmp_path)


def test_the_headline_is_of_the_results(results: Path) -> None:
    text = f"before\n{headline.BEGIN}old\n{headline.END}after\n"
    found = headline.replaced(text, headline.read(results / "bench.json"))
    assert found.startswith(f"before\n{headline.BEGIN}") and found.endswith(
        f"{headline.END}after\n"
    )
    assert "old" not in found
    rows = [[word.strip() for word in line.split("|")] for line in found.splitlines()]
    assert ["", "python, sandboxd", "3.00 ms", "3.00 ms", "11.0", "10.0 ms", ""] in rows
    assert ["", "python, bare", "2.00 ms", "2.00 ms", "11.0", "10.0 ms", ""] in rows
    assert headline.replaced(found, made()) == found
    with pytest.raises(headline.NoBlockError):
        headline.replaced("nothing here", made())


def test_the_table_of_the_readme_is_the_committed_reports() -> None:
    """Both are there or neither: no figure stands in the README that no report has."""
    readme = (ROOT / "README.md").read_text()
    assert (headline.BEGIN in readme) == COMMITTED.exists()
    if COMMITTED.exists():
        assert headline.replaced(readme, headline.read(COMMITTED)) == readme
        committed = COMMITTED.with_name("report.html").read_text()
        assert headline.read(COMMITTED).host.commit in committed
