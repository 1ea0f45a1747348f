"""`sandboxd judge run` and `sandboxd judge verify`: submissions and problem packages, from a terminal.

Both are clients like any other. A package is read here and sent case by case, so nothing of it has to be
stored at the service.
"""

import base64
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import msgspec
from sandboxd_client import CaseResult, Client, Judgement, JudgeOptions, SandboxdError

from sandboxd.cli import run_report, run_request
from sandboxd.cli.sandbox_files import printable
from sandboxd.judge.archive import PackageError, Rules, from_directory, from_zip
from sandboxd.judge.package import Package, load, wall_time
from sandboxd.judge.package_programs import Example
from sandboxd.model.submission import Case, CaseData

_RULES = Rules(total=64 << 20, file=16 << 20)
_PROBE_LIMIT = 20.0
"""Seconds that accepted submissions get while the time limit is not known yet."""
_BAR = 30
_JUDGED_OTHERWISE = 1


@click.group("judge")
def judge() -> None:
    """Judge programs on the cases of a problem."""


command = judge


@judge.command("run")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--problem", required=True,
    help="A package (directory or zip), or the id of a stored problem.",
)  # fmt: skip
@click.option("--language", help="By default told by the suffix of FILE.")
@click.option("--time-limit", type=float, help="CPU seconds of each case.")
@click.option("--all", "every", is_flag=True, help="Judge every case, also after a failure.")
@click.option("--url", envvar="SANDBOXD_URL", help="The service: http://host:port, unix:/path.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def run(
    file: Path, problem: str, language: str | None, time_limit: float | None, every: bool,
    url: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Judge FILE and exit 0 if it is accepted, 1 if it is not."""
    options: JudgeOptions = {"source": file.read_text()}
    count: int | None = None
    if Path(problem).exists():
        package = _read(Path(problem))
        options |= fields_of(package, time_limit)
        count = len(package.problem.cases)
        if every:
            options["stop_on_failure"] = False
    else:
        options["problem"] = problem
        if time_limit is not None:
            options["limits"] = {"cpu_time": time_limit, "wall_time": wall_time(time_limit)}
    try:
        with Client(url) as client:
            options["language"] = language or run_request.guess_language(client, file)
            progress = _Progress(count, shown=sys.stderr.isatty())
            result = client.judge(on_case=progress.case, **options)
            progress.end()
    except SandboxdError as error:
        raise SystemExit(run_report.failure(error)) from None
    if as_json:
        click.echo(msgspec.json.encode(result.document).decode())
    else:
        click.echo(table(result))
    raise SystemExit(0 if result.accepted else _JUDGED_OTHERWISE)


@judge.command("verify")
@click.argument("package", type=click.Path(exists=True, path_type=Path))
@click.option("--url", envvar="SANDBOXD_URL", help="The service: http://host:port, unix:/path.")
def verify(package: Path, url: str | None) -> None:
    """Judge every example submission of PACKAGE, and exit 0 if each is as its directory says."""
    found = _read(package)
    known = [example for example in found.examples if example.language is not None]
    skipped = [example for example in found.examples if example.language is None]
    try:
        with Client(url) as client:
            limit, timed = _time_limit(client, found, known)
            click.echo(
                f"{found.problem.title}: {len(found.problem.cases)} cases, time limit {limit:g} s"
            )
            wrong = sum(not _as_expected(client, found, example, limit, timed) for example in known)
    except SandboxdError as error:
        raise SystemExit(run_report.failure(error)) from None
    for example in skipped:
        click.echo(f"skipped  {example.path}: no language that is known here")
    click.echo(f"{len(known) - wrong} of {len(known)} as expected")
    raise SystemExit(0 if wrong == 0 and known else _JUDGED_OTHERWISE)


def _time_limit(
    client: Client, package: Package, examples: Iterable[Example]
) -> tuple[float, dict[str, Judgement]]:
    """The package's, or what its format makes of the accepted submissions, which then are judged."""
    if package.time_limit is not None:
        return package.time_limit, {}
    judged = {
        example.path: client.judge(**(fields_of(package, _PROBE_LIMIT) | program_of(example)))
        for example in examples
        if example.expected == ("AC",)
    }
    slowest = max((result.cpu_time for result in judged.values()), default=0.0)
    return package.time_rule.limit(slowest), judged


def _as_expected(
    client: Client, package: Package, example: Example, limit: float, timed: dict[str, Judgement]
) -> bool:
    result = timed.get(example.path) or client.judge(
        **(fields_of(package, limit) | program_of(example))
    )
    good = result.verdict in example.expected
    mark = "ok      " if good else "WRONG   "
    score = f"  score {result.score:g} of {result.max_score:g}" if package.problem.groups else ""
    click.echo(
        f"{mark} {printable(example.path)}: {result.verdict}, expected {' or '.join(example.expected)}"
        f"  {result.cpu_time:.3f} s{score}"
    )
    if not good and (why := _reason(result)):
        click.echo(f"         {why}")
    return good


def _reason(result: Judgement) -> str:
    failed = next((case for case in result.cases if case.verdict not in (None, "AC")), None)
    if failed is not None:
        return f"case {printable(failed.name)}: {failed.verdict} {printable(failed.message[:200])}"
    return _lines(result.message[:200] or (result.compile.stderr[:500] if result.compile else ""))


def _read(path: Path) -> Package:
    try:
        tree = (
            from_directory(path, _RULES) if path.is_dir() else from_zip(path.read_bytes(), _RULES)
        )
        return load(tree, path.stem)
    except (PackageError, OSError) as error:
        raise click.UsageError(f"{path}: {error}") from None


def fields_of(package: Package, time_limit: float | None) -> JudgeOptions:
    """A submission's share of a package, its data inline."""
    problem = package.problem
    plain: dict[str, Any] = msgspec.to_builtins(problem)
    limits = dict(plain.get("limits", {}))
    if time_limit is not None:
        limits |= {"cpu_time": time_limit, "wall_time": wall_time(time_limit)}
    fields: dict[str, Any] = {
        "cases": [_case(package, case) for case in problem.cases],
        "checker": msgspec.to_builtins(problem.checker),
        "groups": plain.get("groups", []),
        "limits": limits,
        "compile_limits": plain.get("compile_limits", {}),
        "stop_on_failure": problem.stop_on_failure,
    }
    if problem.interactor is not None:
        fields["interactor"] = plain["interactor"]
    options: JudgeOptions = fields  # type: ignore[assignment]
    return options


def _case(package: Package, case: Case) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(case)
    for name in ("input", "answer"):
        content = getattr(case, name)
        if isinstance(content, CaseData) and content.digest is not None:
            data = package.data[content.digest]
            found[name] = {"base64": base64.b64encode(data).decode()}
    return found


def program_of(example: Example) -> JudgeOptions:
    return {
        "language": example.language or "",
        "source": example.source,
        "files": {name: content.data() for name, content in example.files.items()},
        "compile_args": example.compile_args,
    }


def table(result: Judgement) -> str:
    """The cases in columns, and the verdict below."""
    if result.verdict == "CE" and result.compile is not None:
        said = _lines(result.compile.stderr or result.compile.stdout)
        return f"{said}CE: the program does not compile"
    names = [printable(case.name) for case in result.cases]
    width = max(map(len, names), default=4)
    rows = [f"{'case':<{width}}  verdict  {'cpu s':>8}  {'MiB':>7}  message"]
    for name, case in zip(names, result.cases, strict=True):
        said = printable(case.message.splitlines()[0][:60]) if case.message else ""
        rows.append(
            f"{name:<{width}}  {case.verdict or '-':<7}  {case.cpu_time:8.3f}"
            f"  {case.peak_memory / (1 << 20):7.1f}  {said}".rstrip()
        )
    counts = Counter(case.verdict or "left out" for case in result.cases)
    summary = ", ".join(f"{count} {name}" for name, count in counts.items())
    rows.append(f"{result.verdict or result.status}: {summary or _lines(result.message)}")
    if result.max_score:
        rows[-1] += f"; score {result.score:g} of {result.max_score:g}"
    return "\n".join(rows)


def _lines(text: str) -> str:
    """What a compiler or a checker said: it may have been told to speak to our terminal."""
    return "\n".join(printable(line.expandtabs()) for line in text.split("\n"))


class _Progress:
    """A bar of judged cases on stderr, if that is a terminal."""

    def __init__(self, count: int | None, *, shown: bool) -> None:
        self._count, self._shown = count, shown
        self._done, self._failed = 0, 0

    def case(self, result: CaseResult) -> None:
        self._done += 1
        self._failed += result.verdict != "AC"
        if self._shown:
            filled = _BAR * self._done // self._count if self._count else 0
            bar = f"[{'#' * filled}{'.' * (_BAR - filled)}] " if self._count else ""
            whole = f"/{self._count}" if self._count else ""
            click.echo(
                f"\r{bar}{self._done}{whole} cases, {self._failed} not accepted", nl=False, err=True
            )

    def end(self) -> None:
        if self._shown and self._done:
            click.echo(err=True)
