"""One connection to PostgreSQL, and what is said on it: statements prepared once, sent together, answered in order.

libpq does the talking (`psycopg.pq`) and never blocks; waiting is left to whoever drives a conversation, which is why
an exchange takes no longer than it may, on a thread as on an event loop. Each statement is a transaction of its own.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol, TypeAlias

from prefixcache_integrations.errors import ConfigurationError, StoreRefused, StoreUnavailable
from prefixcache_integrations.stores.urls import ADVICE, taken_apart

try:
    from psycopg import Error, pq
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg.errors import lookup
    from psycopg.pq.abc import PGconn, PGresult
except ImportError as missing:  # also where psycopg finds no libpq
    raise ConfigurationError(
        "a PostgreSQL store needs psycopg: pip install 'prefixcache-integrations[postgres]'"
    ) from missing

Row: TypeAlias = "tuple[bytes | None, ...]"


class Lost(ConnectionError):
    """The connection is gone, or of no use any more; a new one may be."""


class Answer(NamedTuple):
    """The rows of a statement, each value in PostgreSQL's binary format, and how many rows it touched."""

    rows: Sequence[Row]
    touched: int


class Failure(NamedTuple):
    """A statement that the server did not execute, by its SQLSTATE."""

    state: str

    @property
    def gone(self) -> bool:
        """Whether another connection would do better."""
        return self.state in _GONE

    @property
    def error(self) -> StoreUnavailable:
        """What went wrong, without the server's words, which may quote keys."""
        kind = StoreUnavailable if self.state.startswith(_OUT_OF_REACH) or not self.state else StoreRefused
        try:
            return kind(f"PostgreSQL: {lookup(self.state).__name__}")
        except KeyError:
            return kind(f"PostgreSQL: SQLSTATE {self.state}")


Reply: TypeAlias = "Answer | Failure"
Conversation: TypeAlias = Generator[int, None, list[Reply]]
"""Yields the `selectors` events it waits for on the connection's socket."""

_MISSING_TABLE = "42P01"
_GONE = frozenset({"26000", _MISSING_TABLE, "57P01", "57P02"})
"""A statement that is not prepared any more, a table that was dropped, a server that shuts down."""
_OUT_OF_REACH = ("08", "40", "55", "57", "58", "XX")
"""Classes of SQLSTATE that say nothing of what was asked: the server could not do it now."""


class Request(NamedTuple):
    """Execute the prepared statement ``name``; bytes are sent as they are, text in PostgreSQL's text format."""

    name: str
    values: Sequence[bytes | str | None] = ()

    def send(self, connection: PGconn) -> None:
        """Hand it to libpq."""
        values = [value.encode() if isinstance(value, str) else value for value in self.values]
        formats = [pq.Format.TEXT if isinstance(value, str) else pq.Format.BINARY for value in self.values]
        connection.send_query_prepared(self.name.encode(), values, formats, pq.Format.BINARY)


class _Sendable(Protocol):
    def send(self, connection: PGconn) -> None: ...


class _Prepare(NamedTuple):
    name: str
    text: str

    def send(self, connection: PGconn) -> None:
        connection.send_prepare(self.name.encode(), self.text.encode())


class _Execute(NamedTuple):
    text: str

    def send(self, connection: PGconn) -> None:
        connection.send_query_params(self.text.encode(), None)


def conninfo(url: str) -> str:
    """Return ``url`` in libpq's own form, with what every connection is to have. Raises `ConfigurationError`."""
    taken_apart(url)
    with suppress(Error):  # which quotes what it is about
        given = conninfo_to_dict(url)
        # What the last moments before a crash of the server lose is asked again.
        options = f"-c synchronous_commit=off {given.get('options') or ''}".strip()
        return make_conninfo(url, options=options, fallback_application_name="prefixcache", client_encoding="UTF8")
    raise ConfigurationError(f"no URL of a PostgreSQL server: libpq does not understand it; {ADVICE}")


class Connection:
    """A connection with ``statements`` prepared, by name. ``create`` makes the tables where there are none."""

    def __init__(self, raw: PGconn, selector: selectors.BaseSelector) -> None:
        self.raw = raw
        self._selector = selector

    @classmethod
    def open(cls, conninfo: str, statements: Sequence[tuple[str, str]], create: str, seconds: float) -> Connection:
        """Connect within ``seconds``. Raises `StoreUnavailable`, `OSError` and psycopg's errors."""
        until = time.monotonic() + seconds
        connection = cls(_connected(conninfo, until), selectors.DefaultSelector())
        try:
            connection._prepare(statements, create, until)
        except BaseException:
            connection.close()
            raise
        return connection

    def ask(self, requests: Sequence[Request], seconds: float) -> list[Reply]:
        """Return the reply to each of ``requests``, blocking. Raises `TimeoutError` and `Lost`."""
        return self._drive(exchange(self.raw, requests), time.monotonic() + seconds)

    def close(self) -> None:
        """Close it."""
        self._selector.close()
        self.raw.finish()

    def _prepare(self, statements: Sequence[tuple[str, str]], create: str, until: float) -> None:
        prepares = [_Prepare(*row) for row in statements]
        replies = self._drive(exchange(self.raw, prepares), until)
        if Failure(_MISSING_TABLE) in replies:
            _all_done(self._drive(exchange(self.raw, [_Execute(create)]), until))
            # One that names no table is prepared already: the connection's others are all it can keep.
            missing = [row for row, reply in zip(prepares, replies, strict=True) if isinstance(reply, Failure)]
            replies = self._drive(exchange(self.raw, missing), until)
        _all_done(replies)

    def _drive(self, conversation: Conversation, until: float) -> list[Reply]:
        socket = self.raw.socket
        self._selector.register(socket, selectors.EVENT_READ)
        try:
            events = next(conversation)
            while True:
                self._selector.modify(socket, events)
                if not self._selector.select(max(0.0, until - time.monotonic())):
                    raise TimeoutError
                events = conversation.send(None)
        except StopIteration as done:
            replies: list[Reply] = done.value
            return replies
        finally:
            self._selector.unregister(socket)


def exchange(connection: PGconn, requests: Sequence[_Sendable]) -> Conversation:
    """Send ``requests`` in one go and return their replies in order. Raises `Lost`."""
    replies: list[Reply] = []
    try:
        for request in requests:
            request.send(connection)
            connection.pipeline_sync()
        unsent, ends = connection.flush(), 0
        while ends < len(requests):
            yield selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0)
            connection.consume_input()
            unsent = unsent and connection.flush()
            while ends < len(requests) and not connection.is_busy():
                result = connection.get_result()
                if result is not None and result.status == pq.ExecStatus.PIPELINE_SYNC:
                    ends += 1
                elif result is not None:
                    replies.append(_reply(result))
    except Error as error:
        raise Lost(type(error).__name__) from error
    return replies


def _reply(result: PGresult) -> Reply:
    if result.status == pq.ExecStatus.TUPLES_OK:
        columns = range(result.nfields)
        rows = [tuple(result.get_value(row, column) for column in columns) for row in range(result.ntuples)]
        return Answer(rows, result.ntuples)
    if result.status == pq.ExecStatus.COMMAND_OK:
        return Answer((), result.command_tuples or 0)
    return Failure((result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode())


def _all_done(replies: Sequence[Reply]) -> None:
    for reply in replies:
        if isinstance(reply, Failure):
            raise reply.error


def _connected(conninfo: str, until: float) -> PGconn:
    raw = pq.PGconn.connect_start(conninfo.encode())
    try:
        while _connecting(raw, until):
            pass
        raw.nonblocking = 1
        raw.enter_pipeline_mode()
    except BaseException:
        raw.finish()
        raise
    return raw


def _connecting(raw: PGconn, until: float) -> bool:
    """Do one step, and return whether there is another."""
    status = raw.connect_poll()
    if status == pq.PollingStatus.FAILED:
        raise Lost("no connection")
    if status == pq.PollingStatus.OK:
        return False
    with selectors.DefaultSelector() as selector:  # libpq may replace the socket between two steps
        reading = status == pq.PollingStatus.READING
        selector.register(raw.socket, selectors.EVENT_READ if reading else selectors.EVENT_WRITE)
        if not selector.select(max(0.0, until - time.monotonic())):
            raise TimeoutError
    return True
