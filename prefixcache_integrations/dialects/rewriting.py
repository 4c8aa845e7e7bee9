"""Writes a body anew as far as its request was changed: a long conversation is sent on as the maker's own messages."""

from __future__ import annotations

from itertools import compress
from operator import is_, is_not

from msgspec.structs import replace

from prefixcache_integrations.canonical import JsonObject, Request
from prefixcache_integrations.canonical.json import as_list
from prefixcache_integrations.dialects.dialect import BodyFormat
from prefixcache_integrations.dialects.wire import MESSAGES


def rewritten(form: BodyFormat, body: JsonObject, read: Request, request: Request) -> dict[str, object]:
    """Return ``body``, which ``form`` has read as ``read``, so that it says ``request``.

    Messages that are the same object in both are those of ``body``; all else is written by ``form``.
    """
    field, messages = MESSAGES[request.dialect], request.messages
    items = as_list(body.get(field))
    if not messages or items is None or len(items) != len(read.messages):
        return form.encode_request(request)
    others = (*compress(messages, map(is_not, messages, read.messages)), *messages[len(items) :])
    made = form.encode_request(replace(request, messages=others))
    written = as_list(made.get(field, ()))
    if written is None or len(written) != len(others):  # a single one may be written as a string
        return form.encode_request(request)
    new = iter(written)
    kept = map(is_, messages, read.messages)
    made[field] = [*(item if same else next(new) for item, same in zip(items, kept, strict=False)), *new]
    return made
