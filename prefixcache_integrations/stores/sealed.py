"""Values encrypted and authenticated, under names that nobody without the secret can compute.

A response key is a hash of the prompt: whoever can read a shared store can try prompts against it. Here the
store inside sees the HMAC of each key and tag under a secret, and AES-256-GCM of each value. Namespaces stay
as they are. Hidden from nobody: how many values there are, their sizes and times, and whether a value that was
replaced or deleted is put back by whoever can write to the store: it was an answer to this very key once.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Container, Sequence

from msgspec.structs import replace

from prefixcache_integrations.errors import ConfigurationError, CorruptEntry
from prefixcache_integrations.flows.flights import Lease
from prefixcache_integrations.flows.op import EntryFacts, EntryKey, Flow
from prefixcache_integrations.stores.store import Store
from prefixcache_integrations.stores.wrapper import Delete, Facts, Get, Invalidate, Put, TakeLease, Wrapper

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ModuleNotFoundError as missing:
    raise ConfigurationError(
        "a sealed store needs cryptography: pip install 'prefixcache-integrations[crypto]'"
    ) from missing

MIN_SECRET_BYTES = 32

_HEADER = b"pfs\x01"
_NONCE = 12


class Sealed(Wrapper):
    """Seals every value put into ``inner`` and opens those it gets; what was altered or moved raises `CorruptEntry`.

    ``secrets`` are random bytes, at least `MIN_SECRET_BYTES` each, kept for this purpose alone. The first seals,
    all are tried for opening: to rotate, put a new one in front, and drop the old one when its values have expired;
    meanwhile a miss costs one read per secret. One secret seals 2**32 values.
    """

    def __init__(self, inner: Store, secrets: Sequence[bytes]) -> None:
        super().__init__(inner)
        if not secrets or not all(map(_is_secret, secrets)):
            raise ConfigurationError(
                f"a sealed store needs a list of secrets of at least {MIN_SECRET_BYTES} random bytes"
            )
        self._seals = tuple(map(_Seal, secrets))

    def _get(self, key: EntryKey) -> Flow[bytes | None]:
        for seal in self._seals:
            sealed = yield from Get(self._inner, seal.hidden(key))
            if sealed is not None:
                return seal.open(key, sealed)
        return None

    def _put(
        self, key: EntryKey, value: bytes, ttl: float | None, tags: Sequence[str], began: int | None
    ) -> Flow[bool]:
        first, *older = self._seals
        for seal in older:
            yield from Delete(self._inner, seal.hidden(key))
        names = [first.hidden_tag(tag) for tag in tags]
        return (yield from Put(self._inner, first.hidden(key), first.close(key, value), ttl, names, began))

    def _delete(self, key: EntryKey) -> Flow[None]:
        for seal in self._seals:
            yield from Delete(self._inner, seal.hidden(key))

    def _facts(self, namespace: str) -> Flow[Sequence[EntryFacts]]:
        entries = yield from Facts(self._inner, namespace)
        return [replace(entry, tags=_HiddenTags(entry.tags, self._seals)) for entry in entries]

    def _lease(self, key: EntryKey) -> Flow[Lease | None]:
        return (yield from TakeLease(self._inner, self._seals[0].hidden(key)))

    def _invalidate(self, namespace: str, tag: str) -> Flow[None]:
        for seal in self._seals:
            yield from Invalidate(self._inner, namespace, seal.hidden_tag(tag))


class _HiddenTags:
    """Tags that can be asked for and not be read."""

    def __init__(self, hidden: Container[str], seals: Sequence[_Seal]) -> None:
        self._hidden = hidden
        self._seals = seals

    def __contains__(self, tag: object) -> bool:
        return any(seal.hidden_tag(str(tag)) in self._hidden for seal in self._seals)


def _is_secret(secret: object) -> bool:
    return isinstance(secret, bytes) and len(secret) >= MIN_SECRET_BYTES


class _Seal:
    """What is derived from one secret: a key for values, one for names, one for tags."""

    def __init__(self, secret: bytes) -> None:
        self._values = AESGCM(_derived(secret, b"values"))
        self._names = _derived(secret, b"names")
        self._tags = _derived(secret, b"tags")

    def hidden(self, key: EntryKey) -> EntryKey:
        return EntryKey(key.namespace, hmac.digest(self._names, _context(key), "sha256").hex())

    def hidden_tag(self, tag: str) -> str:
        return hmac.digest(self._tags, tag.encode("utf-8", "surrogatepass"), "sha256").hex()

    def close(self, key: EntryKey, value: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return b"".join((_HEADER, nonce, self._values.encrypt(nonce, value, _context(key))))

    def open(self, key: EntryKey, sealed: bytes) -> bytes:
        if not sealed.startswith(_HEADER):
            raise CorruptEntry("not sealed, or by another version")
        nonce, text = sealed[len(_HEADER) :][:_NONCE], sealed[len(_HEADER) + _NONCE :]
        try:
            return self._values.decrypt(nonce, text, _context(key))
        except (InvalidTag, ValueError) as error:
            raise CorruptEntry("the seal is broken") from error


def _derived(secret: bytes, purpose: bytes) -> bytes:
    return hmac.digest(secret, b"prefixcache-integrations sealed store, version 1: " + purpose, "sha256")


def _context(key: EntryKey) -> bytes:
    """Return what a value is bound to: version, namespace and digest, none of which can run into the next."""
    namespace, digest = key.namespace.encode("utf-8", "surrogatepass"), key.digest.encode("utf-8", "surrogatepass")
    return b"%b%d %b%b" % (_HEADER, len(namespace), namespace, digest)
