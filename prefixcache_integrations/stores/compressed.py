"""Values compressed where that pays, with Zstandard."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from prefixcache_integrations.errors import CorruptEntry
from prefixcache_integrations.flows.op import EntryKey, Flow
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

    def _get(self, key: EntryKey) -> Flow[bytes | None]:
        value = yield from Get(self._inner, key)
        return _expanded(value) if value is not None and value.startswith(_MAGIC) else value

    def _put(self, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str]) -> Flow[bool]:
        return (yield from Put(self._inner, key, _compressed(value), ttl, tags))


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
