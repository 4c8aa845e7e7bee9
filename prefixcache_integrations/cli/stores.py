"""``prefixcache stats`` and ``prefixcache clear``: what is in a store of answers, and getting rid of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.table import Table

from prefixcache_integrations.cli.output import (
    AsJson,
    address,
    answer_json,
    console,
    explained,
    fail,
    plain,
    progress_bar,
)
from prefixcache_integrations.cli.sums import print_book, read_book
from prefixcache_integrations.errors import ConfigurationError, StoreUnavailable
from prefixcache_integrations.flows.op import model_tag
from prefixcache_integrations.stores import open_store
from prefixcache_integrations.stores.survey import Survey, sqlite_file, survey

StoreUrl = Annotated[
    str, typer.Argument(metavar="STORE_URL", help="Such as sqlite:///answers.db or redis://host:6379/0.")
]


def stats(
    url: StoreUrl,
    *,
    book: Annotated[str, typer.Option(help="Which shared sums to read, where the store is a server.")] = "",
    as_json: AsJson = False,
) -> None:
    """Count what is in a store, and what calls came to that processes have added up there (`SharedSums`).

    Entries and bytes by namespace, entries by tag where the store can tell; calls, tokens and money by model, app and
    namespace.
    """
    with explained(), _named(url), progress_bar("counting entries") as progress:
        found = survey(url, progress=progress)
        shared = read_book(url, book) if found.kind == "redis" else None
    if as_json:
        totals = {"entries": found.entries, "size": found.size, "sums": shared}
        answer_json({**totals, **{name: getattr(found, name) for name in found.__struct_fields__}})
        return
    console.print(_table(found))
    expired = "" if found.expired is None else f", {found.expired:,} of them expired"
    console.print(f"{found.entries:,} entries{expired}, {found.size:,} bytes")
    if shared is not None:
        print_book(shared)


def _table(found: Survey) -> Table:
    table = Table("namespace", box=None, header_style="bold")
    for name in ("entries", "bytes"):
        table.add_column(name, justify="right")
    table.add_column("tags")
    for row in found.namespaces:
        tags = ", ".join(f"{tag} {count:,}" for tag, count in (row.tags or {}).items())
        table.add_row(plain(row.name or "(default)"), f"{row.entries:,}", f"{row.size:,}", plain(tags))
    return table


def clear(
    url: StoreUrl,
    *,
    namespace: Annotated[str, typer.Option(help="Whose entries; the default namespace if not given.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="Only entries with this tag; may be repeated.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only answers of this model; may be repeated.")] = None,
    secret_from: Annotated[
        str | None,
        typer.Option(metavar="VARIABLE", help="Environment variable with the secret of a sealed store, hex."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Forget the answers of one namespace: all of them, or those with a tag or of a model. Nothing else is touched."""
    tags = [*(tag or ()), *map(model_tag, model or ())]
    what = f"{'entries tagged ' + ', '.join(tags) if tags else 'all entries'} of {_called(namespace)}"
    if not yes and not as_json:
        typer.confirm(f"Forget {what} in {address(url)}?", abort=True)
    elif not yes:
        fail("with --json, clear does not ask: say --yes")
    with explained(), _named(url):
        _forget(url, namespace, tags, secret_from)
    if as_json:
        answer_json({"namespace": namespace, "tags": tags})
    else:
        console.print(f"Forgot {what}.", markup=False)


def _forget(url: str, namespace: str, tags: Sequence[str], secret_from: str | None) -> None:
    if url.startswith("memory:"):
        raise ConfigurationError("memory:// lives in the process of its application: nothing to clear from here")
    secrets = () if secret_from is None else (_secret(secret_from),)
    if url.startswith("sqlite:"):
        sqlite_file(url)  # opening a store would make the file
    store = open_store(url, secrets=secrets)
    try:
        for tag in tags:
            store.invalidate(namespace, tag)
        if not tags:
            store.clear(namespace)
    finally:
        store.close()


@contextmanager
def _named(url: str) -> Iterator[None]:
    """Say of which store it is that it cannot be reached."""
    try:
        yield
    except StoreUnavailable as error:
        raise StoreUnavailable(f"{address(url)}: {error}") from error


def _secret(variable: str) -> bytes:
    try:
        return bytes.fromhex(os.environ[variable])
    except KeyError:
        raise ConfigurationError(f"the environment has no {variable}") from None
    except ValueError:
        raise ConfigurationError(f"{variable} is not hexadecimal") from None


def _called(namespace: str) -> str:
    return f"namespace {namespace!r}" if namespace else "the default namespace"
