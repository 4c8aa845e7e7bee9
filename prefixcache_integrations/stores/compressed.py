"""Values compressed where that pays, with Zstandard."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from prefixcache_integrations.errors import CorruptEntry
from prefixcache_integrations.flows.op import EntryKey, Flow
from prefixcache_integrations.stores.store import Kept, Store
from prefixcache_integrations.stores.wrapper import Get, Put, Wrapper

try:
    import zstandard
except ModuleNotFoundError:
    _INSTALLED = False
else:
    _INSTALLED = True

MIN_BYTES = 1024
LEVEL = 3
MAX_BYTES = 64 * 2**20
"""The most that a value may grow to when it is read: few bytes can promise a great many."""

REMEMBERED_BYTES = 8 * 2**20
"""Of what was expanded lately so much is remembered, as stored and as expanded: expanding takes longer than reading."""

_MAGIC = b"\x28\xb5\x2f\xfd"


class _Contexts(threading.local):
    """Each thread's own: to make one takes longer than to use it, and no two threads may use one at once."""

    def __init__(self) -> None:
        if _INSTALLED:
            self.compressor = zstandard.ZstdCompressor(level=LEVEL)
            self.decompressor = zstandard.ZstdDecompressor()


_contexts = _Contexts()


class Compressed(Wrapper):
    """Compresses values of `MIN_BYTES` or more in ``inner``; a compressed value begins with the magic of its format.

    Without zstandard (extra ``zstd``) it compresses nothing, and values that others compressed are not there.
    """

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self._lately = _Lately()

    def _get(self, key: EntryKey) -> Flow[bytes | None]:
        value = yield from Get(self._inner, key)
        return self._lately.expanded(key, value) if value is not None and value.startswith(_MAGIC) else value

    def _put(
        self, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str], began: int | None
    ) -> Flow[bool]:
        return (yield from Put(self._inner, key, _compressed(value), ttl, tags, began))


class _Lately:
    """What was expanded lately. The store is still asked every time: another value is expanded anew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[EntryKey, tuple[bytes, Kept]] = {}  # read without the lock, so in the order of first sight
        self._bytes = 0

    def expanded(self, key: EntryKey, value: bytes) -> bytes | None:
        """Return what ``value`` of ``key`` expands to."""
        known = self._known.get(key)
        if known is not None and known[0] == value:
            return known[1]
        expanded = _expanded(value)
        if expanded is None or len(value) + len(expanded) > REMEMBERED_BYTES // 8:
            return expanded
        kept = Kept(expanded)
        with self._lock:
            self._forget(key)
            self._known[key] = value, kept
            self._bytes += len(value) + len(kept)
            while self._bytes > REMEMBERED_BYTES:
                self._forget(next(iter(self._known)))
        return kept

    def _forget(self, key: EntryKey) -> None:
        self._bytes -= sum(map(len, self._known.pop(key, ())))


def _compressed(value: bytes) -> bytes:
    if not _INSTALLED or (len(value) < MIN_BYTES and not value.startswith(_MAGIC)):
        return value
    smaller = _contexts.compressor.compress(value)
    # Copied: the buffer that zstandard returns is as large as the value might have become.
    return bytes(memoryview(smaller)) if len(smaller) < len(value) or value.startswith(_MAGIC) else value


def _expanded(value: bytes) -> bytes | None:
    if not _INSTALLED:
        return None
    try:
        if zstandard.get_frame_parameters(value).content_size > MAX_BYTES:
            raise CorruptEntry("would grow beyond every answer")
        return _contexts.decompressor.decompress(value, max_output_size=MAX_BYTES)
    except zstandard.ZstdError as error:
        raise CorruptEntry("not a well-formed compressed value") from error
