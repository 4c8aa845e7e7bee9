"""How a namespace lies in Redis: the names of its keys, and when a stored value lives.

Two kinds of string keys, all of one namespace in one cluster slot::

    pfx:{namespace}          the namespace's log: records of 16 bytes
    pfx:{namespace}:entry    generation (16) | records seen (2) | number of tags (2) | tags (8 each) | value

namespace, entry and tags as hashes. The first record of a log is random: the generation. Every later one is
an invalidated tag: 8 random bytes, 8 of its hash. A value lives while its generation is the log's and none
of its tags stands in the log behind the records that its writer had seen.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from secrets import token_bytes
from typing import TypeGuard

from prefixcache_integrations.flows.op import EntryKey

RECORD = 16
_TAG = 8
_COUNTS = struct.Struct(">HH")
_TAGS = RECORD + _COUNTS.size


@lru_cache(maxsize=4096)
def log_key(namespace: str) -> str:
    """Return the key of the log of ``namespace``."""
    return f"pfx:{{{_hash(namespace, 12).hex()}}}"


def entry_key(key: EntryKey) -> str:
    """Return the key under which the value of ``key`` lies."""
    return f"{log_key(key.namespace)}:{_hash(key.digest, 16).hex()}"


def new_log() -> bytes:
    """Return a log with a generation of its own: no value written before lives in it."""
    return token_bytes(RECORD)


def invalidation(tag: str) -> bytes:
    """Return the record that invalidates ``tag``; it also serves as the first of a log that was not there."""
    return token_bytes(RECORD - _TAG) + _hash(tag, _TAG)


def is_log(log: bytes | None) -> TypeGuard[bytes]:
    """Return whether values can live by ``log``."""
    return log is not None and len(log) >= RECORD


def stamp(log: bytes, value: bytes, tags: Sequence[str]) -> bytes:
    """Return ``value`` as it is stored by a writer who has read ``log``."""
    hashes = b"".join(_hash(tag, _TAG) for tag in tags)
    return b"".join((log[:RECORD], _COUNTS.pack(len(log) // RECORD, len(tags)), hashes, value))


def live(log: bytes | None, stored: bytes | None) -> bytes | None:
    """Return the value in ``stored``, ``None`` if by ``log`` it does not live."""
    if log is None or stored is None or len(stored) < _TAGS or stored[:RECORD] != log[:RECORD]:
        return None
    seen, count = _COUNTS.unpack_from(stored, RECORD)
    body = _TAGS + count * _TAG
    if count and len(log) > seen * RECORD:
        gone = {log[end - _TAG : end] for end in range((seen + 1) * RECORD, len(log) + 1, RECORD)}
        if any(stored[start : start + _TAG] in gone for start in range(_TAGS, body, _TAG)):
            return None
    return stored[body:]


def _hash(name: str, size: int) -> bytes:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=size).digest()
