"""How single calls use the response cache: settings of a cache, and `caching`, which overrides them for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import reduce
from types import NoneType, TracebackType
from typing import Literal, NamedTuple, Self, TypeAlias, cast, get_args

from msgspec import UNSET, Struct, UnsetType, ValidationError, convert
from msgspec.structs import replace

from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.prompt.keys import STRICT, KeyPolicy

Mode: TypeAlias = Literal["use", "skip", "refresh", "only"]
"""``use`` the cache; ``skip`` it; ``refresh`` its answer by a new call; ``only`` ask it and never call."""

_MODES: tuple[str, ...] = get_args(Mode)


class CacheSettings(Struct, frozen=True, kw_only=True):
    """How a call is cached. ``ttl`` in seconds, ``None`` for good; ``namespace`` is ``None`` where nobody named one.

    Raises `ConfigurationError` for what cannot be meant.
    """

    mode: Mode = "use"
    ttl: float | None = None
    policy: KeyPolicy = STRICT
    tags: tuple[str, ...] = ()
    namespace: str | None = None

    def __post_init__(self) -> None:
        _check(self)


def tag_names(tags: object) -> tuple[str, ...]:
    """Return ``tags`` as settings hold them. Raises `ConfigurationError` for what is no collection of names."""
    if isinstance(tags, str | bytes) or not isinstance(tags, Iterable):
        raise ConfigurationError(f"tags are a list of names, not {tags!r}")
    names = tuple(tags)
    for name in names:
        _be("a tag is a name", name, str)
    return names


def _check(asked: CacheSettings | Controls) -> None:
    """Refuse what cannot be meant; what a caller leaves open is no mistake."""
    if asked.mode is not UNSET and asked.mode not in _MODES:
        raise ConfigurationError(f"a mode is one of {', '.join(_MODES)}, not {asked.mode!r}")
    if asked.ttl is not UNSET and asked.ttl is not None and not _is_time(asked.ttl):
        raise ConfigurationError(f"a ttl is a number of seconds above 0, or None for good, not {asked.ttl!r}")
    _be("a policy is a KeyPolicy, as KeyPolicy.loose()", asked.policy, KeyPolicy, UnsetType)
    _be("a namespace is a text", asked.namespace, str, UnsetType, NoneType)
    tag_names(asked.tags)


def _be(words: str, value: object, *kinds: type) -> None:
    if not isinstance(value, kinds):
        raise ConfigurationError(f"{words}, not {value!r}")


def _is_time(ttl: object) -> bool:
    return isinstance(ttl, int | float) and not isinstance(ttl, bool) and 0 < ttl < float("inf")


class Controls(Struct, frozen=True, kw_only=True):
    """What a call wants otherwise than its cache is set. Raises `ConfigurationError` for what cannot be meant.

    ``policy`` is the whole policy; ``temperature_tolerance`` alone makes the policy at hand a loose one.
    """

    mode: Mode | UnsetType = UNSET
    ttl: float | UnsetType | None = UNSET
    policy: KeyPolicy | UnsetType = UNSET
    temperature_tolerance: float | UnsetType = UNSET
    tags: tuple[str, ...] = ()
    namespace: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        _check(self)
        if self.temperature_tolerance is not UNSET:
            KeyPolicy.loose(self.temperature_tolerance)  # refuses what is out of range

    def over(self, others: Controls) -> Controls:
        """Return these controls, and those of ``others`` where these are silent; tags add up."""
        told = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not UNSET}
        return replace(others, **{**told, "tags": tuple(dict.fromkeys((*others.tags, *self.tags)))})

    def applied(self, settings: CacheSettings) -> CacheSettings:
        """Return ``settings`` as these controls change them."""
        policy = settings.policy if self.policy is UNSET else self.policy
        if self.temperature_tolerance is not UNSET:
            policy = replace(policy, ordered=False, tolerance=self.temperature_tolerance)
        return CacheSettings(
            mode=settings.mode if self.mode is UNSET else self.mode,
            ttl=settings.ttl if self.ttl is UNSET else self.ttl,
            policy=policy,
            tags=tuple(dict.fromkeys((*settings.tags, *self.tags))),
            namespace=settings.namespace if self.namespace is UNSET else self.namespace,
        )


NO_CONTROLS = Controls()
"""What a call wants that says nothing."""


class _Entered(NamedTuple):
    """The blocks around a call, the outermost first, and what they ask for together."""

    blocks: tuple[caching, ...]
    controls: Controls


_OUTSIDE = _Entered((), NO_CONTROLS)

_entered: ContextVar[_Entered] = ContextVar("prefixcache_integrations.caching", default=_OUTSIDE)
_controls: ContextVar[Controls] = ContextVar("prefixcache_integrations.controls", default=NO_CONTROLS)


current_controls: Callable[[], Controls] = _controls.get
"""Returns what the `caching` blocks around this call ask for, the innermost first."""


def current_namespace() -> str:
    """Return the namespace that the `caching` blocks around this call name, empty where none does."""
    named = current_controls().namespace
    return named if isinstance(named, str) else ""


class caching:  # noqa: N801 - read as a statement: ``with caching(ttl=60):``
    """Cache the calls of a ``with`` or ``async with`` block otherwise than their caches are set.

    A block inside another overrides what it names; tags add up. Threads that LangChain starts and tasks see the block
    they were started in. The same object may be entered again, also while it is entered. Leaving a block ends no other,
    in whatever order blocks are left, and nothing in a context that never entered it, as a generator may be left in.
    A generator that yields inside a block leaves it open meanwhile for whoever runs it. Raises `ConfigurationError` for
    what cannot be meant.

    Args:
        ttl: Seconds an answer is kept, ``None`` for good.
        mode: See `Mode`; with ``only`` a call that has no answer raises `AnswerNotCached`.
        policy: What may differ between two requests that share an answer.
        temperature_tolerance: Rounds temperature and top_p, and leaves order of tools and parallel calls out.
        tags: Names by which what is stored can be invalidated.
        namespace: The tenant boundary; with ``None`` the one that is named around the block or by the cache stays.
        yields: Whether enclosing blocks win over this one, for code that only sets defaults.
    """

    def __init__(
        self,
        *,
        ttl: float | UnsetType | None = UNSET,
        mode: Mode | UnsetType = UNSET,
        policy: KeyPolicy | UnsetType = UNSET,
        temperature_tolerance: float | UnsetType = UNSET,
        tags: Iterable[str] = (),
        namespace: str | UnsetType | None = UNSET,
        yields: bool = False,
    ) -> None:
        self._controls = Controls(
            ttl=ttl,
            mode=mode,
            policy=policy,
            temperature_tolerance=temperature_tolerance,
            tags=(tags,) if isinstance(tags, str) else tag_names(tags),
            namespace=UNSET if namespace is None else namespace,
        )
        self._yields = yields

    def __enter__(self) -> Self:
        _enter(_within(_entered.get(), self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        blocks = _entered.get().blocks
        at = next((at for at in reversed(range(len(blocks))) if blocks[at] is self), None)
        if at is not None:
            _enter(reduce(_within, (*blocks[:at], *blocks[at + 1 :]), _OUTSIDE))

    def inside(self, outer: Controls) -> Controls:
        """Return what this block asks for where ``outer`` is asked for around it."""
        return outer.over(self._controls) if self._yields else self._controls.over(outer)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)


def _enter(entered: _Entered) -> None:
    _entered.set(entered)
    _controls.set(entered.controls)


def _within(outer: _Entered, block: caching) -> _Entered:
    return _Entered((*outer.blocks, block), block.inside(outer.controls))


_STRATEGIES: Mapping[str, Controls] = {
    "strict": Controls(policy=STRICT),
    "exact": Controls(policy=KeyPolicy(exact=True)),
    "loose": Controls(policy=KeyPolicy.loose()),
    **{mode: Controls(mode=cast("Mode", mode)) for mode in _MODES},
}
"""What a request may say in one word: which requests are the same, or what to do with the cache."""


class _Fields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    strategy: str | UnsetType = UNSET
    mode: Mode | UnsetType = UNSET
    ttl_seconds: float | UnsetType | None = UNSET
    temperature_tolerance: float | UnsetType = UNSET
    tags: tuple[str, ...] = ()
    namespace: str | UnsetType = UNSET


def controls_of(fields: object) -> Controls:
    """Read controls from plain data.

    The fields are ``strategy``, ``mode``, ``ttl_seconds``, ``temperature_tolerance``, ``tags`` and ``namespace``.
    ``strategy`` is ``strict``, ``exact``, ``loose``, or a mode. Raises `ConfigurationError` for anything else.
    """
    try:
        read = convert(fields, _Fields)
    except ValidationError as error:
        raise ConfigurationError(f"cache control: {error}") from error
    if read.strategy is not UNSET and read.strategy not in _STRATEGIES:
        raise ConfigurationError(f"a strategy is one of {', '.join(_STRATEGIES)}, not {read.strategy!r}")
    spelled = Controls(
        mode=read.mode,
        ttl=read.ttl_seconds,
        temperature_tolerance=read.temperature_tolerance,
        tags=read.tags,
        namespace=read.namespace,
    )
    return spelled if read.strategy is UNSET else spelled.over(_STRATEGIES[read.strategy])
