"""The text of prompt templates by its pieces: what stands in the template, and what a call puts in."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from string import Formatter
from typing import TypeAlias

from langchain_core.documents import Document
from langchain_core.prompts import FewShotPromptTemplate, PromptTemplate
from langchain_core.prompts.string import DEFAULT_FORMATTER_MAPPING
from langchain_core.utils import mustache
from msgspec import Struct

from prefixcache_integrations.prompt.known import KnownText, Slot, SlotKind

TextTemplate: TypeAlias = PromptTemplate | FewShotPromptTemplate
"""A template of one text."""

_DOCUMENTS = frozenset(
    {"chunks", "context", "context_str", "docs", "document", "documents", "passages", "retrieved", "sources"}
)
"""The names that LangChain's own chains and documentation give to a variable with what was retrieved."""

_JINJA2_VARIABLE = re.compile(r"\{\{ *([A-Za-z_]\w*) *\}\}")
_JINJA2_TAG = re.compile(r"\{[{%#]")

_FAULTS = (ValueError, TypeError, LookupError, AttributeError, SyntaxError, mustache.ChevronError)
"""What a template may raise that we read otherwise than LangChain does."""


class Piece(Struct, frozen=True):
    """A piece of a template: text as it will be written, or where ``name`` is given, what a variable is put in by."""

    source: str
    name: str | None = None


def filled(template: TextTemplate, values: Mapping[str, object], fixed: Collection[str]) -> KnownText | None:
    """Return what ``template`` says with ``values``, and what of it differs from call to call.

    ``fixed`` are variables that have the same value in every call, beside the template's own partials. ``None`` for a
    template that cannot be taken apart: it has more than variables in it, selects its examples, or calls functions of
    its own.
    """
    own = {name: value for name, value in template.partial_variables.items() if name not in values}
    if any(map(callable, own.values())):
        return None
    try:
        found = pieces_of(template)
        return None if found is None else _joined(found, {**own, **values}, {*fixed, *own}, template.template_format)
    except _FAULTS:
        return None


def pieces_of(template: TextTemplate) -> tuple[Piece, ...] | None:
    """Return the pieces of ``template``, ``None`` where there is more in it than text and variables."""
    text = template.template if isinstance(template, PromptTemplate) else _with_examples(template)
    return None if text is None else _pieces(text, template.template_format)


def _with_examples(template: FewShotPromptTemplate) -> str | None:
    """Return the template that LangChain makes of the examples and what stands around; ``None`` if it selects them."""
    form = template.example_prompt
    if template.examples is None or any(map(callable, form.partial_variables.values())):
        return None
    examples = (form.format(**{name: each[name] for name in form.input_variables}) for each in template.examples)
    return template.example_separator.join(filter(None, [template.prefix, *examples, template.suffix]))


@lru_cache(maxsize=256)
def _pieces(template: str, template_format: str) -> tuple[Piece, ...] | None:
    found = tuple(_READERS[template_format](template))
    return None if None in found else tuple(piece for piece in found if piece is not None)


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


def _jinja2(template: str) -> Iterator[Piece | None]:
    for number, text in enumerate(_JINJA2_VARIABLE.split(template.removesuffix("\n"))):
        if number % 2:
            yield Piece(text, text)
        else:
            yield None if _JINJA2_TAG.search(text) else Piece(text)


_READERS = {"f-string": _f_string, "mustache": _mustache, "jinja2": _jinja2}


def _joined(
    found: Sequence[Piece], values: Mapping[str, object], fixed: Collection[str], template_format: str
) -> KnownText:
    text, slots = "", list[Slot]()
    for piece in found:
        if piece.name is None:
            text += piece.source
            continue
        written = _written(piece, piece.name, values, template_format)
        name = piece.name.split(".")[0]
        if name not in fixed:
            kind = _kind(name, values.get(name))
            slots.append(Slot(name=piece.name, start=len(text), end=len(text) + len(written), kind=kind))
        text += written
    return KnownText(text, tuple(slots))


def _written(piece: Piece, name: str, values: Mapping[str, object], template_format: str) -> str:
    if template_format == "jinja2":  # which would compile the piece anew in every call
        return str(values.get(name, ""))
    return DEFAULT_FORMATTER_MAPPING[template_format](piece.source, **values)


def _kind(name: str, value: object) -> SlotKind:
    several = value if isinstance(value, list | tuple) else [value]
    is_documents = bool(several) and all(isinstance(each, Document) for each in several)
    return "documents" if is_documents or name.lower() in _DOCUMENTS else "value"
