"""How commands answer: for people in colour, for programs as JSON, errors in one line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from prefixcache_integrations.errors import PrefixCacheError


class Exit(IntEnum):
    """What a command's exit code says; 2 is typer's own, for a command line that makes no sense."""

    DONE = 0
    FAILED = 1
    FOUND = 3
    """It worked, and what it looked for is there: a broken prefix, a problem of the environment."""


AsJson = Annotated[bool, typer.Option("--json", help="Answer with one JSON object.")]

console = Console(highlight=False)
_errors = Console(stderr=True, highlight=False)


def answer_json(value: object) -> None:
    """Write one JSON object on a line; money is a string of all its digits."""
    typer.echo(msgspec.json.encode(value, enc_hook=_plain).decode())


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError


def fail(message: str, code: Exit = Exit.FAILED) -> NoReturn:
    """Say in one line what is wrong, and stop."""
    typer.echo(message, err=True)
    raise typer.Exit(code)


def plain(text: str) -> Text:
    """Return words of others for the terminal: not as markup, and with nothing in them that a terminal obeys."""
    shown = (each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in text)
    return Text("".join(shown))


def address(url: str) -> str:
    """Return the URL of a store for people: without user, password and options, which are no one's to read."""
    scheme, separator, rest = url.partition("://")
    place = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority, slash, path = place.partition("/")
    hidden = "@" in rest[len(authority) :]  # behind an "@" in path or options, the authority may be half a password
    return scheme + separator + ("…" if hidden else authority.rpartition("@")[2] + slash + path)


@contextmanager
def explained() -> Iterator[None]:
    """Turn what can be expected to go wrong into one line on stderr and exit code 1."""
    try:
        yield
    except PrefixCacheError as error:
        fail(str(error))
    except BrokenPipeError:
        # Whoever reads has gone; the interpreter must not try to flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(Exit.FAILED) from None
    except OSError as error:
        fail(f"{error.filename or 'file'}: {error.strerror or type(error).__name__}")


@contextmanager
def progress_bar(what: str, total: int | None = None) -> Iterator[Callable[[int], Any]]:
    """Show how far long work is, where someone watches; call what it gives with how much is done."""
    if not _errors.is_terminal:
        yield lambda _: None
        return
    with Progress(console=_errors, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
