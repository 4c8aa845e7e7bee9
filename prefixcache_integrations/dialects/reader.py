"""Reads the bodies of growing conversations: of one that goes on with a body read before, only what is new is read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate, compress, islice
from operator import ne
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import DialectName, JsonObject, Kept, Message, Request
from prefixcache_integrations.canonical.json import as_list, without
from prefixcache_integrations.dialects.dialect import BodyFormat, Dialect
from prefixcache_integrations.dialects.wire import MESSAGES
from prefixcache_integrations.errors import MalformedRequest

_LOOK_BACK = 256
"""How many messages a turn may add to be known again: as many are looked at where nothing is."""

_KEYS = 8
"""By how many of its ends a conversation is known: others may go on from each of the latest."""

_Key: TypeAlias = tuple[DialectName, bytes]


class BodyReader:
    """Reads bodies, and remembers the latest. Thread-safe.

    What a body has in common with one that was read before becomes the same objects again: messages, and what stands
    before them. Two have in common what is written with the same bytes, key order included. Requests are made of
    copies, as far as a body is JSON: they do not see what its maker does to it afterwards, and their messages and tools
    are `Kept`.

    Args:
        max_bodies: How many conversations are remembered, by their latest bodies.
        max_bytes: Of which size in all.
    """

    def __init__(self, *, max_bodies: int = 256, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._max_bodies = max_bodies
        self._max_bytes = max_bytes
        self._bytes = 0
        self._reads: OrderedDict[int, _Read] = OrderedDict()
        self._ends: dict[_Key, _Read] = {}
        self._lock = threading.Lock()

    def read(self, dialect: Dialect, body: JsonObject) -> Request:
        """Return what ``dialect`` decodes of ``body``. Raises `MalformedRequest` like it."""
        given = _given(dialect, body)
        if given is None:
            return dialect.decode_request(body)
        known = self._known(dialect, given)
        read = _read(dialect, given, known)
        if read is None:
            return dialect.decode_request(body)
        if read.size <= self._max_bytes:
            self._remember(read if read.frame is not None else _without_frame(read), known)
        return read.request

    def reading(self, dialect: Dialect) -> BodyFormat:
        """Return ``dialect`` for bodies on their way: it reads them here, and what it writes is of copies again."""
        return _Reading(dialect, self)

    def _known(self, dialect: Dialect, given: _Given) -> _Read:
        """Return the body that ``given`` goes on with: it has the last but one of that one's messages."""
        rows = islice(reversed(given.rows), _LOOK_BACK)
        with self._lock:
            return next(filter(None, (self._ends.get((dialect.name, row)) for row in rows)), _NOTHING)

    def _remember(self, read: _Read, known: _Read) -> None:
        with self._lock:
            if read.ends[:-1]:
                self._forget(known)
            self._reads[id(read)] = read
            self._bytes += read.size
            self._ends.update(dict.fromkeys(read.ends, read))
            while len(self._reads) > self._max_bodies or self._bytes > self._max_bytes:
                self._forget(next(iter(self._reads.values())))

    def _forget(self, read: _Read) -> None:
        if self._reads.pop(id(read), None) is None:
            return  # there was none, or another thread was first
        self._bytes -= read.size
        for key in read.ends:
            if self._ends.get(key) is read:
                del self._ends[key]


class _Reading(NamedTuple):
    dialect: Dialect
    reader: BodyReader

    def decode_request(self, body: JsonObject) -> Request:
        return self.reader.read(self.dialect, body)

    def encode_request(self, request: Request) -> dict[str, object]:
        return {name: _copied(field) for name, field in self.dialect.encode_request(request).items()}


def _copied(value: object) -> object:
    """Return JSON that nobody else has; whoever sends it may change it."""
    if type(value) is dict:
        return {name: _copied(field) for name, field in value.items()}
    return [_copied(item) for item in value] if type(value) is list else value


class _Given(NamedTuple):
    """A body to read: its messages and all the rest, the frame, each also as bytes. ``None``: the frame is no JSON."""

    items: Sequence[object]
    rows: list[bytes]
    rest: JsonObject
    frame: bytes | None


class _Read(Struct, frozen=True, kw_only=True, eq=False):
    """A body that was read, and the request that it says.

    ``ends`` are the messages by which it is known: the last but one of this body, as the last may be marked otherwise
    in the next, and those of the bodies that it goes on with. ``heads`` are those of its messages.
    """

    rows: list[bytes]
    frame: bytes | None
    request: Request
    size: int
    ends: tuple[_Key, ...]
    heads: tuple[int, ...] = ()


def _given(dialect: Dialect, body: JsonObject) -> _Given | None:
    """Return ``body`` as bytes; ``None`` without messages, and where they cannot be written: they are no JSON."""
    field = MESSAGES[dialect.name]
    items = as_list(body.get(field))
    if not items:
        return None
    rest = without(body, field)
    try:
        rows = [*map(_encode, items)]
    except _NO_JSON:
        return None
    try:
        frame = _encode(rest)
    except _NO_JSON:
        return _Given(items, rows, rest, None)
    return _Given(items, rows, rest, frame)


def _read(dialect: Dialect, given: _Given, known: _Read) -> _Read | None:
    """Return ``given`` as it is read where ``known`` was; ``None`` where copies do not say the same."""
    shared = min(len(known.rows), len(given.rows))
    rows = [*known.rows[:shared], *given.rows[shared:]]
    new = [*compress(range(shared), map(ne, rows, given.rows)), *range(shared, len(rows))] or [len(rows) - 1]
    goes_on = new[0] >= len(known.rows) - 1
    moved = {} if goes_on else _moved(given, known, new)
    read = [index for index in new if index not in moved] or [len(rows) - 1]
    is_framed_alike = given.frame is not None and given.frame == known.frame
    made = _made(dialect, given, read, framed=not is_framed_alike)
    if made is None:
        return None
    messages = [*known.request.messages[:shared], *made.messages[:1] * (len(rows) - shared)]
    for index, message in (*moved.items(), *zip(read, made.messages, strict=True)):
        rows[index], messages[index] = given.rows[index], message
    heads = _heads(known.heads[: new[0]], rows)
    return _Read(
        rows=rows,
        frame=given.frame,
        request=replace(known.request if is_framed_alike else _framed(made, given), messages=Kept(messages, heads)),
        size=len(given.frame or b"") + sum(map(len, rows)),
        ends=(*(known.ends[1 - _KEYS :] if goes_on else ()), (dialect.name, rows[-2:][0])),
        heads=heads,
    )


def _framed(made: Request, given: _Given) -> Request:
    """Return ``made`` with tools that are known by what is written of them, if they are copies."""
    tools = as_list(given.rest.get("tools")) if made.tools and given.frame is not None else None
    return made if tools is None else replace(made, tools=Kept(made.tools, _heads((), [*map(_encode, tools)])))


def _heads(known: tuple[int, ...], rows: Sequence[bytes]) -> tuple[int, ...]:
    """Return a hash of all ``rows`` up to and with each, of which the first are ``known``."""
    before = known[-1] if known else 0
    added = accumulate(islice(rows, len(known), None), _head, initial=before)
    return (*known, *islice(added, 1, None))


def _head(before: int, row: bytes) -> int:
    return hash((before, row))


def _without_frame(read: _Read) -> _Read:
    """Return ``read`` to be remembered without what is no JSON: it is the maker's own, of any size, and never known."""
    messages = read.request.messages
    return replace(read, request=Request(dialect=read.request.dialect, model="", messages=messages))


def _moved(given: _Given, known: _Read, new: Sequence[int]) -> dict[int, Message]:
    """Return those of the messages ``new`` that stood elsewhere in ``known``: where some were dropped, or put in."""
    places = dict(zip(known.rows, known.request.messages, strict=True))
    return {index: places[given.rows[index]] for index in new if given.rows[index] in places}


def _made(dialect: Dialect, given: _Given, new: Sequence[int], *, framed: bool) -> Request | None:
    """Return what is decoded of copies of the messages ``new``, in a frame that says nothing unless it is asked for."""
    rest = given.rest
    try:
        items = [_decode(given.rows[index]) for index in new]
        if framed and given.frame is not None:
            rest = _decode(given.frame)
    except (*_NO_JSON, msgspec.DecodeError):
        return None
    if items != [given.items[index] for index in new] or rest != given.rest:
        return None
    body = {**(rest if framed else {"model": rest.get("model")}), MESSAGES[dialect.name]: items}
    try:
        made = dialect.decode_request(body)
    except MalformedRequest:
        return None
    return made if len(made.messages) == len(items) else None


def _decode(written: bytes) -> Any:  # noqa: ANN401 - JSON
    """Return what is ``written``. Raises `ValueError` for a moment in a time zone: it would come back in another."""
    if any(map(written.__contains__, _MOMENTS)):
        raise ValueError
    return _decode_any(written)


_NOTHING = _Read(rows=[], frame=None, request=Request(dialect="openai_chat", model=""), size=0, ends=())
_encode = msgspec.msgpack.Encoder().encode
_decode_any = msgspec.msgpack.Decoder().decode
_MOMENTS = (b"\xd6\xff", b"\xd7\xff", b"\xc7\x0c\xff")  # how MessagePack begins them, and no text
_NO_JSON = (TypeError, ValueError, OverflowError, RecursionError)
