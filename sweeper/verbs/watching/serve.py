"""The verb `serve`."""

import re
import secrets
import signal
from pathlib import Path

import click

from sweeper.verbs.output import say

GENERATED = "generated"


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; any but this machine's own wants a token.",
)
@click.option("--port", default=8001, show_default=True, help="Port; 0 is any that is free.")
@click.option(
    "--token",
    is_flag=False,
    flag_value=GENERATED,
    envvar="SWEEPER_SERVE_TOKEN",
    metavar="[TEXT]",
    help="Want a token on this machine, too; alone, one is generated.",
)
def serve(results: Path, host: str, port: int, token: str | None) -> None:
    """Show the sweeps of a results folder in a browser, as they go.

    RESULTS is the folder of all results, or that of one sweep. The list says how every sweep
    stands; the page of each follows what it publishes. No driver needs it, it needs none, and it
    writes nothing into the folder.

    Example: sweeper serve results
    """
    from sweeper.errors import StoreError
    from sweeper.watching.followed import Folder, sweeps_in
    from sweeper.watching.server import Access, Server, is_loopback
    from sweeper.watching.site import Site

    if not sweeps_in(results):
        raise StoreError(
            f"{results} holds no sweep yet; run one with `sweeper run FILE --results {results}`"
        )
    if token == GENERATED or (not token and not is_loopback(host)):
        token = secrets.token_urlsafe(24)
    if token and not re.fullmatch(r"[A-Za-z0-9_.~-]{16,}", token):
        message = "expected 16 or more letters, digits, dashes, dots and underscores"
        raise click.BadParameter(message, param_hint="--token")
    folder = Folder(results)
    server = Server(Site(folder), Access(host, token or ""), port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is temporary is removed
    say(f"serving {results} at {server.url}  (Ctrl-C stops it)")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        say("stopped; the sweeps go on")
    finally:
        server.server_close()
        folder.close()
