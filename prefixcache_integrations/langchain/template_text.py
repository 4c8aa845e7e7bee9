"""The text of prompt templates by its pieces: what stands in the template, and what a call puts in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from string import Formatter

from langchain_core.documents import Document
from langchain_core.prompts import PromptTemplate
from langchain_core.prompts.string import DEFAULT_FORMATTER_MAPPING
from langchain_core.utils import mustache
from msgspec import Struct

from prefixcache_integrations.prompt.known import KnownText, Slot, SlotKind

_DOCUMENTS = frozenset(
    {"chunks", "context", "context_str", "docs", "document", "documents", "passages", "retrieved", "sources"}
)
"""The names that LangChain's own chains and documentation give to a variable with what was retrieved."""

_FAULTS = (ValueError, TypeError, LookupError, AttributeError, SyntaxError, mustache.ChevronError)
"""What a template may raise that we read otherwise than LangChain does."""


class Piece(Struct, frozen=True):
    """A piece of a template: text as it will be written, or where ``name`` is given, what a variable is put in by."""

    source: str
    name: str | None = None


def filled(template: PromptTemplate, values: Mapping[str, object], fixed: Collection[str]) -> KnownText | None:
    """Return what ``template`` says with ``values``, and what of it differs from call to call.

    ``fixed`` are variables that have the same value in every call, beside the template's own partials. ``None`` for a
    template that cannot be taken apart: it is of jinja2, has sections, or calls functions of its own.
    """
    own = {name: value for name, value in template.partial_variables.items() if name not in values}
    if any(map(callable, own.values())):
        return None
    try:
        found = pieces(template.template, template.template_format)
        return None if found is None else _joined(found, {**own, **values}, {*fixed, *own}, template.template_format)
    except _FAULTS:
        return None


@lru_cache(maxsize=256)
def pieces(template: str, template_format: str) -> tuple[Piece, ...] | None:
    """Return the pieces of a template, ``None`` where its format has more than variables in it."""
    reader = {"f-string": _f_string, "mustache": _mustache}.get(template_format)
    found = () if reader is None else tuple(reader(template))
    return None if reader is None or None in found else tuple(piece for piece in found if piece is not None)


def _f_string(template: str) -> Iterator[Piece]:
    for literal, name, spec, conversion in Formatter().parse(template):
        yield Piece(literal)
        if name is not None:
            yield Piece(
                "{" + name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") + "}", name
            )


def _mustache(template: str) -> Iterator[Piece | None]:
    tags = {"variable": "{{%s}}", "no escape": "{{{%s}}}"}
    for kind, text in mustache.tokenize(template):
        if kind == "literal":
            yield Piece(text)
        else:
            yield Piece(tags[kind] % text, text) if kind in tags else None


def _joined(
    found: Sequence[Piece], values: Mapping[str, object], fixed: Collection[str], template_format: str
) -> KnownText:
    text, slots = "", list[Slot]()
    for piece in found:
        if piece.name is None:
            text += piece.source
            continue
        written = DEFAULT_FORMATTER_MAPPING[template_format](piece.source, **values)
        name = piece.name.split(".")[0]
        if name not in fixed:
            kind = _kind(name, values.get(name))
            slots.append(Slot(name=piece.name, start=len(text), end=len(text) + len(written), kind=kind))
        text += written
    return KnownText(text, tuple(slots))


def _kind(name: str, value: object) -> SlotKind:
    several = value if isinstance(value, list | tuple) else [value]
    is_documents = bool(several) and all(isinstance(each, Document) for each in several)
    return "documents" if is_documents or name.lower() in _DOCUMENTS else "value"
