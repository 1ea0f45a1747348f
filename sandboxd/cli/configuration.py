"""The options before the subcommand: where the settings come from."""

import click
from msgspec import Struct

from sandboxd import settings


class Configuration(Struct, frozen=True):
    """`--config` and `--set` as given; commands that need the settings call `settings`."""

    file: str | None
    flags: tuple[str, ...]

    def settings(self) -> settings.Settings:
        """Raises SettingsError."""
        return settings.load(self.file, flags=self.flags)

    def arguments(self) -> list[str]:
        """The same options again, for a child process."""
        arguments = ["--config", self.file] if self.file else []
        for flag in self.flags:
            arguments += ["--set", flag]
        return arguments


pass_configuration = click.make_pass_decorator(Configuration)
