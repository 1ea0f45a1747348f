"""`sandboxd sandbox network`: what a sandbox asked of its network."""

import click
from sandboxd_client import Client, NetworkRecord, Sandbox, SandboxdError

from sandboxd.cli import run_report
from sandboxd.cli.sandbox_files import printable
from sandboxd.cli.sandbox_words import URL

_PAGE = 1_000


@click.command("network")
@click.argument("name", metavar="ID")
@URL
def network(name: str, url: str | None) -> None:
    """Print names, connections and refusals, the oldest first; also of a sandbox that has ended."""
    try:
        with Client(url) as client:
            sandbox, after = Sandbox.connect(name, client=client), None
            while records := sandbox.network_records(after=after, limit=_PAGE):
                for record in records:
                    click.echo(_line(record))
                after = records[-1].id
    except SandboxdError as error:
        raise SystemExit(run_report.failure(error, "sandboxd sandbox network")) from None


def _line(record: NetworkRecord) -> str:
    where = f"{record.address} {record.protocol} {record.port or ''}".strip()
    bytes_ = f"{record.sent} sent, {record.received} got" if record.sent or record.received else ""
    parts = (record.at, record.kind, record.verdict, record.name, where, bytes_)
    return printable("  ".join(part for part in parts if part))
