"""`sandboxd doctor`: what this host gives, layer by layer."""

import sys

import click

from sandboxd.errors import SandboxdError
from sandboxd.settings import Settings

_MARKS = {"on": "✓", "ok": "✓", "off": "-", "warn": "!", "fail": "✗"}


@click.command
@click.option("--languages", is_flag=True, help="Run each language's self-test in a sandbox.")
@click.pass_obj
def doctor(settings: Settings, languages: bool) -> None:
    """Check this host; exits 1 if a required layer is missing or a self-test fails."""
    from sandboxd.node.doctor import examine

    bad = False
    for row in examine(settings):
        click.echo(f"{_MARKS[row.state]} {row.name:<17} {row.state:<5} {row.text}")
        bad |= row.bad
    if languages and not bad:
        bad = not _languages(settings)
    sys.exit(1 if bad else 0)


def _languages(settings: Settings) -> bool:
    from sandboxd.node.doctor import try_languages

    click.echo()
    try:
        tried = try_languages(settings)
    except SandboxdError as error:
        click.echo(f"✗ {error}")
        return False
    for one in tried:
        result = one.result
        shown = result.compile if result.status == "compile_error" else result
        note = "" if one.right else f"  {(shown.stderr if shown else '').strip()[:200]}"
        click.echo(
            f"{'✓' if one.right else '✗'} {one.language:<17} {result.status:<12} "
            f"cpu {result.cpu_time:.3f} s  wall {result.wall_time:.3f} s  "
            f"peak {result.peak_memory / 2**20:.1f} MiB{note}"
        )
    return all(one.right for one in tried)
