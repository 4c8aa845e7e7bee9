"""Facts, told to observers as they happen: frozen, small, and never with prompt or answer text."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import force_setattr

from prefixcache_integrations.canonical.json import readable
from prefixcache_integrations.canonical.plan import Finding, PromptPlan
from prefixcache_integrations.canonical.usage import Usage
from prefixcache_integrations.errors import ConfigurationError

_logger = logging.getLogger("prefixcache_integrations")


class Labels(Struct, frozen=True, kw_only=True):
    """Whom a call is for, as the application names it; ``None`` and no tags where it does not say.

    Names are made readable: a lone surrogate is a question mark.
    """

    app: str | None = None
    session: str | None = None
    namespace: str | None = None
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Make names such as a database and an exporter can take."""
        for field in ("app", "session", "namespace"):
            if (name := getattr(self, field)) is not None and not str(name).isascii():
                force_setattr(self, field, readable(name))
        if not all(str(tag).isascii() for tag in self.tags):
            force_setattr(self, "tags", tuple(map(readable, self.tags)))


NOBODY = Labels()
"""Whom a call is for of which the application says nothing."""

_SESSIONS = ("session_id", "thread_id", "conversation_id")


def session_of(metadata: Mapping[str, object]) -> str | None:
    """Return the session that the metadata of a run names, in any of the fields that LangSmith reads."""
    found = next((metadata[name] for name in _SESSIONS if metadata.get(name) is not None), None)
    return None if found is None else str(found)


class CacheHit(Struct, frozen=True, kw_only=True):
    """A request was answered from the response cache. ``key`` is the hashed response key."""

    key: str
    model: str | None = None
    labels: Labels = Labels()


class CacheMiss(Struct, frozen=True, kw_only=True):
    """The response cache had no entry."""

    key: str
    model: str | None = None
    labels: Labels = Labels()


class CallJoined(Struct, frozen=True, kw_only=True):
    """A request waited for another caller's call of the same, and was answered with what that call got."""

    key: str
    model: str | None = None
    labels: Labels = Labels()


class AnswerTimed(Struct, frozen=True, kw_only=True):
    """An answer came out of a cache after ``seconds``, as the caller saw it; the hit itself is told apart."""

    seconds: float
    model: str | None = None
    labels: Labels = Labels()


class EntryStored(Struct, frozen=True, kw_only=True):
    """An answer was put into the response cache; ``size`` in bytes as stored."""

    key: str
    size: int


class EntryRejected(Struct, frozen=True, kw_only=True):
    """An answer was not stored, or a stored one not served; ``reason`` in a few words."""

    key: str
    reason: str


class EntryEvicted(Struct, frozen=True, kw_only=True):
    """A store pushed ``count`` entries out at once to make room; in this process, where several share it."""

    count: int


StoreOperation: TypeAlias = Literal["get", "put", "delete", "invalidate", "clear", "lease", "add"]


class StoreDegraded(Struct, frozen=True, kw_only=True):
    """A store failed; the call went on without it."""

    operation: StoreOperation
    error: str


class StoreSuspended(Struct, frozen=True, kw_only=True):
    """A store failed, with ``error`` by name, and is left alone but for a probe now and then."""

    error: str


class StoreRestored(Struct, frozen=True):
    """A store that was left alone answers again."""


class UsageRecorded(Struct, frozen=True, kw_only=True):
    """A call's tokens became known. ``cost`` in US dollars, ``None`` where no price is known.

    ``model`` is the one that answered, where it says so, ``asked`` the model or deployment that the request named.
    ``uncached_cost`` is what the same call would have cost with no prompt cache at all. ``seconds`` is how long it
    took, ``first_token_seconds`` how long until the first piece of a stream came; ``None`` where nobody measured.
    ``broken`` is what is also told by itself of a call that lost what it could have read.
    """

    model: str | None
    asked: str | None = None
    usage: Usage
    cost: Decimal | None = None
    uncached_cost: Decimal | None = None
    provider: str | None = None
    seconds: float | None = None
    first_token_seconds: float | None = None
    labels: Labels = Labels()
    broken: PrefixBroken | None = None


class CallFailed(Struct, frozen=True, kw_only=True):
    """A call to a provider ended in ``error``, the name of an exception, and was not billed."""

    error: str
    model: str | None = None
    provider: str | None = None
    seconds: float | None = None
    labels: Labels = Labels()


class PromptPlanned(Struct, frozen=True, kw_only=True):
    """A request was laid out; ``plan`` lists every breakpoint and finding."""

    model: str
    plan: PromptPlan


BreakReason: TypeAlias = Literal[
    "model_changed",
    "tool_set_changed",  # tools added or removed
    "tool_order_changed",
    "tool_schema_changed",  # a tool's description or parameters
    "system_changed",
    "document_order_changed",  # the same blocks or lines in another order
    "documents_changed",  # other documents
    "history_rewritten",
    "history_truncated",  # earlier messages dropped
    "images_changed",  # other images, or the first or last one of a conversation
    "thinking_changed",
    "thinking_dropped",  # the model no longer reads that of earlier turns
    "effort_changed",
    "tool_choice_changed",
    "format_changed",  # the schema of the answer
    "cache_key_changed",
    "settings_changed",  # any other field that the provider's prefix depends on
    "marker_missing",  # nothing tells the provider to write or look up what both requests share
    "marker_beyond_lookback",  # the marker is too many blocks behind
    "below_minimum",  # too short to be cached at all
    "ttl_expired",
    "not_yet_readable",  # sent before the response that writes the entry had begun
    "dropped_by_provider",  # routed to another machine, or evicted
]
"""Why a request does not read what the one before it left in the provider's cache."""


class PrefixBroken(Struct, frozen=True, kw_only=True):
    """A request reads less from the provider's cache than the one before it had left there.

    ``path`` is where the two first differ, ``None`` where they do not. ``lost_tokens`` could have been read;
    ``lost_cost`` is their price in US dollars over what reading them costs, ``None`` where no price is known.
    ``provider_reason`` is the provider's own word for it, where it was asked, and ``disagreement`` says in which way
    that is something else.
    """

    model: str
    reason: BreakReason
    lost_tokens: int
    path: str | None = None
    offset: int | None = None
    lost_cost: Decimal | None = None
    remedy: str | None = None
    labels: Labels = Labels()
    provider_reason: str | None = None
    disagreement: str | None = None


class DiagnosisFailed(Struct, frozen=True, kw_only=True):
    """What a request lost could not be found out, for ``error``, the name of an exception; the call went on."""

    error: str
    model: str | None = None


class PassedThrough(Struct, frozen=True, kw_only=True):
    """A request was left exactly as it was, because it could not be understood; ``reason`` quotes no text."""

    reason: str
    model: str | None = None


class VolatileFound(Struct, frozen=True, kw_only=True):
    """Something in the instructions or tools changes from call to call, or seems to, and stays: told once per place.

    ``finding`` is that of the plan: where it is, what it costs while it changes, in uncached input tokens, and what to
    do. A layout without a memory tells it with every request.
    """

    model: str
    finding: Finding


class DuplicatesDropped(Struct, frozen=True, kw_only=True):
    """Of documents with the same text one was kept; ``count`` others are not sent."""

    count: int


Event: TypeAlias = (
    CacheHit
    | CacheMiss
    | CallJoined
    | AnswerTimed
    | EntryStored
    | EntryRejected
    | EntryEvicted
    | StoreDegraded
    | StoreSuspended
    | StoreRestored
    | UsageRecorded
    | CallFailed
    | PromptPlanned
    | PrefixBroken
    | DiagnosisFailed
    | PassedThrough
    | VolatileFound
    | DuplicatesDropped
)
Observer: TypeAlias = Callable[[Event], None]


def checked_observers(observers: Iterable[Observer]) -> tuple[Observer, ...]:
    """Return ``observers`` as they are kept. Raises `ConfigurationError` for what cannot be told anything."""
    given: object = observers
    told = tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(map(callable, told)):
        raise ConfigurationError(f"observers are a list of functions that take an event, not {observers!r}")
    return told


def tell(observers: Sequence[Observer], event: Event) -> None:
    """Tell every observer; one that raises is logged and does not stop the call or the others."""
    for observer in observers:
        try:
            observer(event)
        except Exception:
            _logger.exception("An observer failed on %s", type(event).__name__)
