"""`sandboxd gateway`."""

import sys

import click

from sandboxd.settings import Settings, SettingsError


@click.command("gateway")
@click.pass_obj
def command(settings: Settings) -> None:
    """Run only the HTTP gateway; many may share one Redis."""
    from sandboxd.gateway.confinement import Filters
    from sandboxd.gateway.main import main

    filters = Filters(
        always=compiled(settings, "gateway"),
        local=compiled(settings, "gateway-local"),
        serving=compiled(settings, "gateway-serving"),
    )
    sys.exit(main(settings, filters))


def compiled(settings: Settings, name: str) -> bytes:
    """Gateway and courier never see the native core; they are given the program.

    Raises SettingsError if there is no such file.
    """
    from sandboxd.native import compile_seccomp

    path = settings.policy_path / "seccomp" / f"{name}.json"
    try:
        return compile_seccomp(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
