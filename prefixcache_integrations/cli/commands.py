"""The commands of ``prefixcache``; importing this module needs the extras ``cli`` and ``server``."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Annotated

import typer

from prefixcache_integrations.cli.doctor import DISTRIBUTION, doctor, installed
from prefixcache_integrations.cli.explain import explain
from prefixcache_integrations.cli.output import AsJson, Exit, answer_json
from prefixcache_integrations.cli.replay import replay
from prefixcache_integrations.cli.report import report
from prefixcache_integrations.cli.stores import clear, stats
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.server import Simulator, SimulatorClock
from prefixcache_integrations.server.faces import ProviderName

DEFAULT_PORT = 8377

app = typer.Typer(
    name="prefixcache",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
)
for command in (explain, replay, report, stats, clear, doctor):
    app.command()(command)


def _show_version(asked: bool) -> None:  # noqa: FBT001 - the signature of a typer callback
    if asked:
        typer.echo(f"{DISTRIBUTION} {installed(DISTRIBUTION) or '(not installed: run from its sources)'}")
        raise typer.Exit


@app.callback()
def root(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Stop LLM apps from paying twice."""


@app.command()
def simulate(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on; 0 takes a free one.")] = DEFAULT_PORT,
    host: Annotated[str, typer.Option(help="Loopback address to serve on.")] = "127.0.0.1",
    *,
    as_json: AsJson = False,
) -> None:
    """Serve the providers' prompt caches here, with no key and no bill, until Ctrl-C.

    The model behind it echoes the last text. Cache lifetimes run in real time; POST {"advance": seconds} to
    /_simulator/clock to skip ahead. With --json, a line when it serves and one when it stops. Not modelled: routing,
    eviction under load, tokens the provider hides.
    """
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    try:
        with Simulator(host=host, port=port, clock=SimulatorClock(real_time=True)) as simulator:
            if as_json:
                answer_json(_start_facts(simulator))
            else:
                typer.echo(_start_line(simulator))
            stop.wait()
    except (ConfigurationError, OSError) as error:
        typer.echo(f"Cannot serve on {host}:{port}: {error}", err=True)
        raise typer.Exit(Exit.FAILED) from error
    if as_json:
        answer_json({"calls": len(simulator.calls)})
    else:
        typer.echo(f"Stopped after {len(simulator.calls)} calls.")


def _start_facts(simulator: Simulator) -> dict[str, object]:
    providers: tuple[ProviderName, ...] = ("anthropic", "openai", "azure")
    urls = {name: simulator.base_url(name) for name in providers}
    return {"base_urls": urls, "exact": simulator.tokenizer.exact, "tokenizer": simulator.tokenizer.name}


def _start_line(simulator: Simulator) -> str:
    tokens = f"exact tokens ({simulator.tokenizer.name})" if simulator.tokenizer.exact else "ESTIMATED tokens"
    urls = (
        f"Anthropic base_url={simulator.base_url('anthropic')}",
        f"OpenAI base_url={simulator.base_url('openai')}",
        f"Azure azure_endpoint={simulator.base_url('azure')}",
    )
    return f"Simulating prompt caches, {tokens}, any API key: {' · '.join(urls)} · Ctrl-C stops"
