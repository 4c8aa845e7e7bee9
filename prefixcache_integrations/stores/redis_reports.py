"""The latest reports of all processes of an application, in a Redis stream: each exchange is one script.

::

    pfxmem:{app}        the stream: who sent a batch (o), its number (n), when its last request was sent (t), and it (b)
    pfxmem:{app}:bytes  how many bytes of batches are in it

The commands, for an ACL: ``+eval +xadd +xrange +xrevrange +xdel +incrby +decrby +expire +del ~pfxmem:*``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import cast

from prefixcache_integrations.stores.redis_clients import BlockingClient, Command, Disconnect
from prefixcache_integrations.stores.redis_places import place
from prefixcache_integrations.stores.report_log import Batch
from prefixcache_integrations.stores.urls import server_url

HISTORY = 2000
"""How many batches a process reads when it starts, at most: the latest."""

READ = 200
"""How many it reads at a time afterwards."""

_EXCHANGE = """
local stream, bytes, history = KEYS[1], KEYS[2], ARGV[3] == ''
local before = {}
if history then
  before = redis.call('xrevrange', stream, '+', '-', 'count', ARGV[4])
end
for at = 7, #ARGV, 3 do
  redis.call('xadd', stream, '*', 'o', ARGV[6], 'n', ARGV[at], 't', ARGV[at + 1], 'b', ARGV[at + 2])
  redis.call('incrby', bytes, #ARGV[at + 2])
end
if #ARGV >= 7 then
  local size = redis.call('incrby', bytes, 0)
  while size > tonumber(ARGV[1]) do
    local oldest = redis.call('xrange', stream, '-', '+', 'count', 1)[1]
    if not oldest then redis.call('del', bytes) break end
    redis.call('xdel', stream, oldest[1])
    size = redis.call('decrby', bytes, #(oldest[2][8] or ''))
  end
  redis.call('expire', stream, ARGV[2])
  redis.call('expire', bytes, ARGV[2])
end
if history then
  local latest = redis.call('xrevrange', stream, '+', '-', 'count', 1)[1]
  return {latest and latest[1] or '', 0, before}
end
local found = redis.call('xrange', stream, ARGV[3], '+', 'count', ARGV[5])
local news, last = {}, ''
for _, entry in ipairs(found) do
  last = entry[1]
  if entry[2][2] ~= ARGV[6] then news[#news + 1] = entry end
end
return {last, #found, news}
"""


class RedisLog:
    """A log on the server at ``url``, for the application ``app``.

    It has at most ``max_bytes``, and is gone ``horizon`` seconds after the last batch. Each exchange takes at most
    ``timeout`` seconds for connecting, and for its reply.

    Raises `ConfigurationError` for a URL that names no server.
    """

    def __init__(
        self, url: str, *, app: str, max_bytes: int, horizon: float, timeout: float = 1.0, pause: float = 2.0
    ) -> None:
        self._client = BlockingClient(place(server_url(url)), timeout)
        self.pause = pause
        self._key = f"pfxmem:{{{app or 'default'}}}"
        self._bounds = (max_bytes, int(horizon))
        self._next = ""

    def exchange(self, origin: str, batches: Sequence[Batch]) -> Sequence[Batch]:
        """See `ReportLog.exchange`."""
        news = list[Batch]()
        while True:
            last, count, entries = self._perform(origin, batches)
            if not self._next:
                entries = entries[::-1]
            news += _read(entries)
            self._next = _after(last) or self._next or "0-1"
            if count < READ:
                return news
            batches = ()

    def _perform(self, origin: str, batches: Sequence[Batch]) -> tuple[bytes, int, list[tuple[bytes, list[bytes]]]]:
        words: list[str | bytes | int] = [*self._bounds, self._next, HISTORY, READ, origin]
        for batch in batches:
            words += [batch.number, repr(batch.at), batch.data]
        reply = self._client.perform(Command(("EVAL", _EXCHANGE, 2, self._key, f"{self._key}:bytes", *words)))
        return cast("tuple[bytes, int, list[tuple[bytes, list[bytes]]]]", reply)

    def close(self) -> None:
        """See `ReportLog.close`."""
        self._client.perform(Disconnect())


def _after(name: bytes) -> str:
    """Return what the entry right behind the one called ``name`` would be called: Redis 6.0 has no open ranges."""
    milliseconds, _, number = name.decode().partition("-")
    return f"{milliseconds}-{int(number) + 1}" if milliseconds else ""


def _read(entries: Sequence[tuple[bytes, list[bytes]]]) -> Iterator[Batch]:
    for _, fields in entries:
        named = dict(zip(fields[::2], fields[1::2], strict=True))
        with suppress(KeyError, ValueError):  # what others have put there is none of ours
            yield Batch(named[b"o"].decode(), int(named[b"n"]), float(named[b"t"]), named[b"b"])
