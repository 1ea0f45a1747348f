"""The `sandboxd` command. Each subcommand is a module, imported when it is the one that runs."""

import sys
from importlib import import_module

import click

from sandboxd import __version__, settings

# Name -> help; the command is the attribute `command`, or the name itself, of the module.
_COMMANDS = {
    "serve": "Run the whole service on this machine.",
    "gateway": "Run only the HTTP gateway.",
    "node": "Run only the node that executes jobs.",
    "courier": "Run only the courier, which delivers webhooks.",
    "network": "Run only the guard of sandboxes' networks; the node does.",
    "run": "Run a program in a sandbox of a running service.",
    "sandbox": "Sandboxes that live: create, exec, cp, pause, fork …",
    "shell": "A terminal in a sandbox.",
    "image": "Images: build, import, export, pull, push, list, collect garbage.",
    "volume": "Volumes of a running service: create, list, remove.",
    "template": "Templates of a running service: images kept warm under a name.",
    "judge": "Judge programs on cases; verify problem packages.",
    "mcp": "Serve tools of the Model Context Protocol over stdio.",
    "doctor": "Show what this machine offers, layer by layer.",
    "demo": "Show real programs meeting every limit.",
}
_CLIENTS = {"run", "sandbox", "shell", "judge", "demo", "volume", "template", "mcp"}
"""They speak to a service that has settings; the others get them as their context's object."""


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # click's own way says "Aborted!" and exits as after a failure
            raise SystemExit(130) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"sandboxd.cli.{cmd_name}")
        command: click.Command = getattr(module, "command", None) or getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # The inherited way imports every command for its help.
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", metavar="FILE", help="TOML file of settings.")
@click.option(
    "--set", "flags", metavar="SECTION.NAME=VALUE", multiple=True,
    help="One setting; wins over the file and SANDBOXD_* variables. May be repeated.",
)  # fmt: skip
@click.version_option(__version__, prog_name="sandboxd", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, config: str | None, flags: tuple[str, ...]) -> None:
    """Run other people's code safely, at once, on a plain Linux box."""
    context.meta["sandboxd.options"] = [
        *(["--config", config] if config else []),
        *(word for flag in flags for word in ("--set", flag)),
    ]
    if context.invoked_subcommand not in _CLIENTS:
        context.obj = settings.load(config, flags=flags)


def main() -> None:
    """Exit codes of our own: 2 for usage and settings, 1 for a failure."""
    try:
        cli(prog_name="sandboxd")
    except settings.SettingsError as error:
        click.echo(f"sandboxd: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
