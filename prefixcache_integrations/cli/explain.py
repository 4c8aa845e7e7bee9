"""``prefixcache explain``: why one request does not read what the one before it left in the cache."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import replace

from prefixcache_integrations import dialects, tokens
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.cli.bodies import Format, read_object, read_request
from prefixcache_integrations.cli.output import AsJson, Exit, answer_json, console, explained, plain
from prefixcache_integrations.errors import MalformedRequest
from prefixcache_integrations.insight import diagnosis
from prefixcache_integrations.insight.diagnosis_paths import outside_arguments
from prefixcache_integrations.insight.verdict import read_verdict
from prefixcache_integrations.profiles import Provider, resolve


class Seller(Enum):
    """Who serves a model."""

    _value_: Provider
    ANTHROPIC = "anthropic"
    OPENAI = "openai"
    AZURE = "azure"


def explain(
    previous: Annotated[Path, typer.Argument(metavar="A.json", help="The body of the earlier request.")],
    current: Annotated[Path, typer.Argument(metavar="B.json", help="The body of the later one; - for stdin.")],
    *,
    usage: Annotated[Path | None, typer.Option(help="The provider's usage object for B, as JSON.")] = None,
    answer: Annotated[Path | None, typer.Option(help="The body of the response to B, as JSON.")] = None,
    elapsed: Annotated[float | None, typer.Option(min=0, help="Seconds from A to B; else nothing expires.")] = None,
    provider: Annotated[Seller | None, typer.Option(help="Who serves the model; else by its name.")] = None,
    wire_format: Annotated[Format, typer.Option("--format", help="The format of the bodies.")] = Format.AUTO,
    show_text: Annotated[bool, typer.Option("--show-text", help="Quote a few characters of the prompts.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say why B does not read from the provider's cache what A left there, what that costs, and what to change.

    Exit codes: 0 nothing is lost, 3 something is, 1 a file cannot be read.
    """
    with explained():
        before, after = read_request(previous, wire_format), read_request(current, wire_format)
        if before.dialect != after.dialect:
            raise MalformedRequest(f"A is {before.dialect}, B is {after.dialect}: no prefix is shared between formats")
        profile = resolve(after.model, provider and provider.value)
        answered = read_object(answer) if answer else {}
        told = read_object(usage) if usage else as_object(answered.get("usage"))
        found = diagnosis.explain(
            before,
            after,
            profile=profile,
            tokenizer=tokens.load(),
            usage=None if told is None else dialects.by_name(after.dialect).decode_usage(told),
            verdict=read_verdict(after, answered) if answer else None,
            elapsed=elapsed,
            price=profile.price(datetime.now(UTC).date()),
            redact=not show_text,
        )
    if found.divergence and not show_text:
        found = replace(found, divergence=replace(found.divergence, path=outside_arguments(found.divergence.path)))
    if as_json:
        facts = {"broken": found.broken, "lost_tokens": found.lost_tokens, "remedy": found.remedy}
        answer_json({**{name: getattr(found, name) for name in found.__struct_fields__}, **facts, "model": after.model})
    else:
        console.print(plain(found.render()), soft_wrap=True)
    if found.broken:
        raise typer.Exit(Exit.FOUND)
