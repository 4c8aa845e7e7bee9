"""How a namespace lies in Redis: the names of its keys, and when a stored value lives.

Two kinds of string keys, all of one namespace in one cluster slot::

    pfx:{namespace}        the namespace's log: records of 16 bytes
    pfx:{namespace}:entry  generation (8) | records seen (2) | number of tags (2) | written (4) | tags (8 each) | value

namespace, entry and tags as hashes. The first eight bytes of a log are random: the generation. Every record but the
first is an invalidated tag: 8 random bytes, 8 of its hash. A value lives while its generation is the log's and none
of its tags stands in the log behind the records that its writer had seen.
"""

from __future__ import annotations

import struct
from base64 import urlsafe_b64encode
from collections.abc import Container, Sequence
from functools import lru_cache
from hashlib import blake2b
from secrets import token_bytes
from typing import TypeGuard

from prefixcache_integrations.flows.op import EntryFacts, EntryKey

RECORD = 16
_GENERATION = 8
_TAG = 8
_COUNTS = struct.Struct(">HHI")
_TAGS = _GENERATION + _COUNTS.size


@lru_cache(maxsize=4096)
def log_key(namespace: str) -> str:
    """Return the key of the log of ``namespace``."""
    return f"pfx:{{{_name(namespace, 12)}}}"


@lru_cache(maxsize=4096)
def entry_key(key: EntryKey) -> str:
    """Return the key under which the value of ``key`` lies."""
    return f"{log_key(key.namespace)}:{_name(key.digest, 15)}"


def new_log() -> bytes:
    """Return a log with a generation of its own: no value written before lives in it."""
    return token_bytes(RECORD)


def invalidation(tag: str) -> bytes:
    """Return the record that invalidates ``tag``; it also serves as the first of a log that was not there."""
    return token_bytes(_GENERATION) + _hash(tag, _TAG)


def is_log(log: bytes | None) -> TypeGuard[bytes]:
    """Return whether values can live by ``log``."""
    return log is not None and len(log) >= RECORD


def stamp(log: bytes, value: bytes, tags: Sequence[str], now: float) -> bytes:
    """Return ``value`` as it is stored by a writer who has read ``log``; ``now`` in seconds since the epoch."""
    hashes = b"".join(_hash(tag, _TAG) for tag in tags)
    return b"".join((log[:_GENERATION], _COUNTS.pack(len(log) // RECORD, len(tags), int(now) % 2**32), hashes, value))


def live(log: bytes | None, stored: bytes | None) -> bytes | None:
    """Return the value in ``stored``, ``None`` if by ``log`` it does not live."""
    if not is_log(log) or stored is None or len(stored) < _TAGS or stored[:_GENERATION] != log[:_GENERATION]:
        return None
    seen, count, _ = _COUNTS.unpack_from(stored, _GENERATION)
    body = _TAGS + count * _TAG
    if count and len(log) > seen * RECORD:
        gone = {log[end - _TAG : end] for end in range((seen + 1) * RECORD, len(log) + 1, RECORD)}
        if any(stored[start : start + _TAG] in gone for start in range(_TAGS, body, _TAG)):
            return None
    return stored[body:]


def pattern(namespace: str) -> str:
    """Return what the keys of ``namespace`` look like to ``SCAN``: its values', and leases', which end in a word."""
    return f"{log_key(namespace)}:*"


def facts(namespace: str, name: bytes, stored: bytes, now: float) -> EntryFacts:
    """Return what is known of the value that lives in ``stored``, under ``name``."""
    _, count, written = _COUNTS.unpack_from(stored, _GENERATION)
    hashes = {stored[start : start + _TAG] for start in range(_TAGS, _TAGS + count * _TAG, _TAG)}
    size = len(stored) - _TAGS - count * _TAG
    return EntryFacts(namespace=namespace, size=size, age=now - written, tags=_HashedTags(hashes), handle=name)


class _HashedTags:
    """Tags that can be asked for and not be read."""

    def __init__(self, hashes: Container[bytes]) -> None:
        self._hashes = hashes

    def __contains__(self, tag: object) -> bool:
        return _hash(str(tag), _TAG) in self._hashes


def _name(name: str, size: int) -> str:
    """Return a hash as text; ``size`` is a multiple of three, so that nothing is padded."""
    return urlsafe_b64encode(_hash(name, size)).decode()


def _hash(name: str, size: int) -> bytes:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=size).digest()
