"""Entries as the bytes a store keeps.

::

    "pfx" | version (1 byte) | checksum (16 bytes) | entry as MessagePack

The checksum covers namespace, digest and entry, so that bytes moved under another key are refused as
surely as bytes that were cut or flipped. It guards against accident, not against an attacker.
"""

from __future__ import annotations

from hashlib import sha256

import msgspec

from prefixcache_integrations.errors import CorruptEntry
from prefixcache_integrations.flows.op import Entry, EntryKey
from prefixcache_integrations.stores.store import Checked, Kept

_HEADER = b"pfx\x02"
_CHECKSUM_SIZE = 16
_BODY = len(_HEADER) + _CHECKSUM_SIZE


class _Record(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    codec: str
    body: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Record).decode


def pack(key: EntryKey, entry: Entry) -> bytes:
    """Return ``entry`` as bytes that only ``key`` can be read from."""
    record = _encode(_Record(codec=entry.codec, body=entry.body))
    return b"".join((_HEADER, _checksum(key, record), record))


def unpack(key: EntryKey, value: bytes) -> Entry:
    """Read what `pack` wrote under the same key. Raises `CorruptEntry` for everything else."""
    if not value.startswith(_HEADER):
        raise CorruptEntry("not an entry of this version")
    record = value[_BODY:]
    if type(value) is not Checked:
        if value[len(_HEADER) : _BODY] != _checksum(key, record):
            raise CorruptEntry("checksum does not match")
        if type(value) is Kept:
            value.__class__ = Checked
    try:
        read = _decode(record)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CorruptEntry("not a well-formed entry") from error
    return Entry(codec=read.codec, body=read.body)


def _checksum(key: EntryKey, record: bytes) -> bytes:
    namespace, digest = key.namespace.encode("utf-8", "surrogatepass"), key.digest.encode("utf-8", "surrogatepass")
    led = b"%d %d %b%b" % (len(namespace), len(digest), namespace, digest)
    return sha256(led + record).digest()[:_CHECKSUM_SIZE]
