"""Put a plan around a body on its way to the provider, or let the body through untouched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TypeAlias, get_args

from msgspec import Struct
from msgspec.structs import replace

from prefixcache_integrations.canonical import Finding, JsonObject, Level, PromptPlan, Request, Tokenizer
from prefixcache_integrations.canonical.json import as_object, as_text
from prefixcache_integrations.dialects.dialect import BodyFormat
from prefixcache_integrations.dialects.rewriting import rewritten
from prefixcache_integrations.errors import ConfigurationError, PrefixCacheError
from prefixcache_integrations.events import Observer, PassedThrough, PromptPlanned, VolatileFound, tell
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.answers import Answer
from prefixcache_integrations.prompt.document_rules import ANY_ORDER, DocumentRules
from prefixcache_integrations.prompt.known import NOTHING_KNOWN, KnownPrompt
from prefixcache_integrations.prompt.layout import decide
from prefixcache_integrations.prompt.stability import PromptMemory

MISREAD = (PrefixCacheError, ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What a body that we misread may raise. It reaches the provider as it was, and the provider judges it."""


_LEVELS: tuple[str, ...] = get_args(Level)

Changes: TypeAlias = Callable[[Request, CacheProfile, int], Sequence[Finding]]
"""Says what was changed since the request before, of one that is about to be sent and so many tokens long."""


class Prepared(Struct, frozen=True, kw_only=True):
    """A body to send, and the request that it says.

    ``plan`` and ``request`` are ``None`` where it is the very object that came in.
    """

    body: JsonObject
    plan: PromptPlan | None = None
    request: Request | None = None


def checked_level(level: Level) -> Level:
    """Return ``level``. Raises `ConfigurationError` for what is none."""
    if level not in _LEVELS:
        raise ConfigurationError(f"a level of layout is one of {', '.join(_LEVELS)}, not {level!r}")
    return level


def prepare(
    body: JsonObject,
    dialect: BodyFormat,
    profile_of: Callable[[str], CacheProfile],
    tokenizer: Tokenizer,
    *,
    level: Level = "canonical",
    observers: Sequence[Observer] = (),
    memory: PromptMemory | None = None,
    now: float = 0.0,
    namespace: str = "",
    answer: Answer | None = None,
    changes: Changes | None = None,
    known: KnownPrompt = NOTHING_KNOWN,
    documents: DocumentRules = ANY_ORDER,
) -> Prepared:
    """Lay out ``body`` for the provider's prompt cache. Never raises, and never changes ``body``.

    Messages that stay as they are, are those of ``body``.

    ``profile_of`` finds the facts about a model by its name. Observers are told `PromptPlanned`, and
    `VolatileFound` for what is new, or `PassedThrough` where the body could not be understood and is returned as it is.
    With a ``memory``, planning goes by what it holds at ``now``, in seconds, and the request is added to it; threads
    may share one, and take turns. ``namespace`` is the tenant whose request it is; its ``answer`` is awaited from the
    plan on, without one it has begun. What ``changes`` finds is added to the plan. ``known`` is what a template says of
    the body, ``documents`` what may be done with them at ``arrange``.
    """
    try:
        request = dialect.decode_request(body)
        profile = profile_of(request.model)
        planned = partial(
            decide, request, profile, tokenizer, level=level, namespace=namespace, known=known, documents=documents
        )
        if memory is None:
            made = planned()
        else:
            with memory.turn, nullcontext() if answer is None else answer.attempted(now):
                made = planned(snapshot=memory.snapshot(now, namespace))
                if made.sighting is not None:
                    memory.observe(made.sighting, now, namespace, answer)
        laid_out = rewritten(dialect, body, request, made.request)
    except MISREAD as error:
        tell(observers, PassedThrough(reason=_reason(error), model=_model(body)))
        return Prepared(body=body)
    plan = made.plan
    if changes is not None:
        found = changes(made.request, profile, plan.prompt_tokens)
        plan = replace(plan, findings=(*plan.findings, *found)) if found else plan
    tell(observers, PromptPlanned(model=request.model, plan=plan))
    for finding in made.news:
        tell(observers, VolatileFound(model=request.model, finding=finding))
    return Prepared(body=laid_out, plan=plan, request=made.request)


def _reason(error: Exception) -> str:
    """Return what went wrong; only our own errors promise not to quote the prompt, others are named by type."""
    return str(error) if isinstance(error, PrefixCacheError) else type(error).__name__


def _model(body: object) -> str | None:
    return as_text((as_object(body) or {}).get("model"))
