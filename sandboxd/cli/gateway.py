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
        always=_compiled(settings, "gateway"),
        local=_compiled(settings, "gateway-local"),
        serving=_compiled(settings, "gateway-serving"),
    )
    sys.exit(main(settings, filters))


def _compiled(settings: Settings, name: str) -> bytes:
    """The gateway itself never sees the native core; it is given the program."""
    from sandboxd.native import compile_seccomp

    path = settings.policy_path / "seccomp" / f"{name}.json"
    try:
        return compile_seccomp(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
