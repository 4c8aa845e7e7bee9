"""What one process tells others, and itself when it starts again, of the requests it has sent: digests, as bytes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from prefixcache_integrations.errors import CorruptEntry
from prefixcache_integrations.prompt.lookups import Bill, Document
from prefixcache_integrations.prompt.steps import Step
from prefixcache_integrations.prompt.templates import Template

VERSION = 1
"""Of what is written; other versions are not read."""

LONGEST = 64 * 2**20
"""How many bytes reports may have when they are unpacked."""


class Report(Struct, frozen=True, array_like=True):
    """One request that was sent at ``at``, in seconds since the epoch, for the tenant with this digest.

    ``texts`` are its instructions as they were known then, without their pieces where these were told before;
    ``places`` are those in them that change, and were told of; ``instead`` and ``as_it_came`` as in `Sighting`. How the
    request was laid out is no part of it: attempts are repeated where they were made.
    """

    tenant: bytes
    at: float
    steps: tuple[Step, ...]
    documents: tuple[tuple[bytes, Document], ...] = ()
    bill: Bill = Bill()
    tools: tuple[bytes, ...] = ()
    agent: bytes = b""
    cache_key: str | None = None
    previous: int | None = None
    texts: tuple[Template, ...] = ()
    places: tuple[bytes, ...] = ()
    instead: tuple[bytes, ...] = ()
    as_it_came: bool = False

    def __post_init__(self) -> None:
        if self.previous is not None and not 0 <= self.previous < len(self.steps):
            raise ValueError("a step that is not there")


class _Batch(Struct, frozen=True, array_like=True):
    version: int
    reports: tuple[Report, ...]


_decoder = msgspec.msgpack.Decoder(_Batch)


def packed(reports: Sequence[Report]) -> bytes:
    """Return ``reports`` as bytes."""
    return zlib.compress(msgspec.msgpack.encode(_Batch(VERSION, tuple(reports))), 1)


def unpacked(data: bytes) -> tuple[Report, ...]:
    """Return what `packed` was given. Raises `CorruptEntry` for other bytes, and for those of another version."""
    try:
        unzip = zlib.decompressobj()
        plain = unzip.decompress(data, LONGEST)
        if not unzip.eof:
            raise CorruptEntry("reports that end too early, or never")
        head = msgspec.msgpack.decode(plain, type=tuple[int, msgspec.Raw])
        if head[0] != VERSION:
            raise CorruptEntry(f"reports of version {head[0]}, not {VERSION}")
        return _decoder.decode(plain).reports
    except (zlib.error, msgspec.MsgspecError) as error:
        raise CorruptEntry(f"no reports: {type(error).__name__}") from error
