"""`prompt_cache_key`: which requests OpenAI is asked to send to one machine, because they can share a cached prefix."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from math import ceil

from msgspec import Struct

from prefixcache_integrations.canonical import Request
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.content import wire_form
from prefixcache_integrations.prompt.identity import canonical_json, wire_bytes
from prefixcache_integrations.prompt.segments import Segment

CACHE_KEY = "prompt_cache_key"
"""The field of the request."""

KEYS = 1024
"""How many keys are counted at a time, at most."""

MINUTE = 60.0

LASTING = 3600.0
"""For how many seconds the busiest minute of a key decides over how many routes it is spread, and a conversation that
pauses keeps its own."""

CONVERSATIONS = 16_384
"""Of how many conversations the routes are known at a time, at most."""

_SERVER_STATE = ("previous_response_id", "conversation")
"""Fields of a request whose beginning is kept by the provider: what is sent does not tell its prefix."""


class Route(Struct, frozen=True):
    """The key of a request, and the ``way`` it is sent: one of several where one would get too many requests.

    ``conversation`` is a number that its requests have in common.
    """

    key: str
    way: int = 0
    conversation: int | None = None

    @property
    def sent(self) -> str:
        """The key that it is sent with."""
        return f"{self.key}-{self.way}" if self.way else self.key


class Routes:
    """How many requests a minute each key gets, over how many routes it is therefore spread, and who has which."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, _Count] = OrderedDict()
        self._taken: OrderedDict[tuple[str, int], _Taken] = OrderedDict()

    def observe(self, route: Route, now: float) -> None:
        """Count a request that is sent at ``now``, in seconds."""
        if route.conversation is not None:
            self._take((route.key, route.conversation), _Taken(route.way, now))
        count = self._counts.setdefault(route.key, _Count())
        self._counts.move_to_end(route.key)
        if len(self._counts) > KEYS:
            self._counts.popitem(last=False)
        minute = int(now // MINUTE)
        count.requests = count.requests + 1 if minute == count.minute else 1
        count.minute = minute
        if count.requests >= count.most or now - count.most_at > LASTING:
            count.most, count.most_at = count.requests, now

    def ways(self, key: str, rate: int, now: float) -> int:
        """Return over how many routes to spread ``key``, so that each gets ``rate`` requests a minute or fewer."""
        count = self._counts.get(key)
        if count is None or now - count.most_at > LASTING:
            return 1
        return max(ceil(count.most / rate), 1)

    def way(self, key: str, conversation: int, rate: int, now: float) -> int:
        """Return which route a request takes: the one its conversation has, where its prefix is; else by a hash."""
        taken = self._taken.get((key, conversation))
        if taken is not None and now - taken.at <= LASTING:
            return taken.way
        return _way(conversation, self.ways(key, rate, now))

    def _take(self, who: tuple[str, int], taken: _Taken) -> None:
        self._taken[who] = taken
        self._taken.move_to_end(who)
        if len(self._taken) > CONVERSATIONS:
            self._taken.popitem(last=False)


class _Taken(Struct, frozen=True, gc=False):
    way: int
    at: float


class _Count(Struct, gc=False):
    """The requests of the latest ``minute``, and of the busiest one, which had its last at ``most_at``."""

    minute: int = 0
    requests: int = 0
    most: int = 0
    most_at: float = 0.0


def route(
    request: Request,
    opening: bytes,
    profile: CacheProfile,
    *,
    namespace: str = "",
    routes: Routes | None = None,
    now: float = 0.0,
) -> Route | None:
    """Return the key to send ``request`` with; ``opening`` is the `opening_digest` of its prompt.

    ``None`` where the model routes by no key, where the application has set one, and where there are no instructions
    and no tools to go by. Requests that can share a cached prefix have one key: it is made of the model, ``namespace``,
    and as much of instructions and tools as two must have in common for that. By what ``routes`` has counted a busy key
    is spread; a conversation keeps its route.
    """
    if not profile.requests_per_key or request.options.get(CACHE_KEY) is not None:
        return None
    if not opening or any(request.options.get(name) is not None for name in _SERVER_STATE):
        return None
    key = f"prefixcache-{_digest(canonical_json([request.model, namespace]), opening)}"
    if routes is None:
        return Route(key)
    conversation = _conversation(request)
    return Route(key, routes.way(key, conversation, profile.requests_per_key, now), conversation)


def opening_digest(prompt: Iterable[Segment], tokens: int) -> bytes:
    """Return the digest of the beginning of the static text, a byte for each of ``tokens``; empty without such text.

    No token is shorter than that, so requests that share so many tokens share all of this. What changes further
    behind, such as the time at the end of the instructions, does not change the key.
    """
    head = bytearray()
    for segment in prompt:
        if segment.tier == "messages" or len(head) >= tokens:
            break
        head += segment.text.encode()
    return hashlib.blake2b(head[:tokens], digest_size=16).digest() if head else b""


def _conversation(request: Request) -> int:
    """Return a number that stays the same for a conversation: made of its first message from a user."""
    first = next((message for message in request.messages if message.role == "user"), None)
    said = b"" if first is None else wire_bytes([wire_form(part) for part in first.parts])
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest())


def _way(conversation: int, ways: int) -> int:
    """Return one of ``ways`` routes; with one more of them, a conversation stays or goes to the new one.

    Jump consistent hashing (Lamping and Veach, arXiv:1406.2294).
    """
    state, way, following = conversation, 0, 0
    while following < ways:
        way = following
        state = (state * 2_862_933_555_777_941_757 + 1) % (1 << 64)
        following = ((way + 1) << 31) // ((state >> 33) + 1)
    return way


def _digest(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
