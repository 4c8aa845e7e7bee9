"""Clients of the SDKs whose requests are laid out: how the bodies of their attempts are got at, and put in again.

Anthropic's clients have a middleware chain for that, OpenAI's a method to override (``_prepare_options``, "Hook for
mutating the given options"). Both are given the body as it will be sent, whoever built it: an app, LangChain or
LlamaIndex. No SDK is imported here, and nothing depends on which HTTP library it sits on.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

from prefixcache_integrations.awaited import answered_at_once
from prefixcache_integrations.canonical import DialectName
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.profiles import Provider
from prefixcache_integrations.sdk_answers import complete, free, tell_answer

ClientT = TypeVar("ClientT")

# The clients' paths are relative to their base URLs; Anthropic's SDK adds a query on its beta methods.
_ANTHROPIC_PATHS: Mapping[str, DialectName] = {"/v1/messages": "anthropic_messages"}
_OPENAI_PATHS: Mapping[str, DialectName] = {"/chat/completions": "openai_chat", "/responses": "openai_responses"}


class Options(Protocol):
    """What the SDKs know about a request before it is built; ``extra_json`` is laid over ``json_data``."""

    url: str
    json_data: object
    extra_json: object


class LaysOut(Protocol):
    """Lays out the bodies of requests. ``stream_usage``: streams tell their usage to the end."""

    stream_usage: bool

    def prepared(
        self, options: Options, dialect: DialectName, provider: Provider, base_url: str | None = None
    ) -> dict[str, Any] | None:
        """Return the body that ``options`` will send to ``base_url``, laid out; ``None`` where there is nothing to."""
        ...


def laid_out(client: ClientT, layout: LaysOut, kinds: dict[type, type]) -> ClientT:
    """Return a client like ``client`` whose requests ``layout`` lays out; ``kinds`` are the classes made for it so far.

    Raises `ConfigurationError` for what is no client of these SDKs.
    """
    match _sdk_of(type(client)):
        case "anthropic":
            view = _with_middleware(client, layout)
        case "openai":
            view = _subclassed(client, layout, kinds)
        case _:
            raise ConfigurationError(f"{type(client).__name__} is no client of the Anthropic or OpenAI SDK")
    return cast("ClientT", view)


def _with_middleware(client: Any, layout: LaysOut) -> Any:  # noqa: ANN401 - any of Anthropic's clients
    if not hasattr(client, "with_middleware"):
        raise ConfigurationError("this version of the Anthropic SDK has no middleware: it takes anthropic>=0.120")
    others = [each for each in client.middleware if not isinstance(each, _Middleware)]
    if any(getattr(each, "layout", None) is layout for each in client.middleware):
        return client
    kind = _AsyncMiddleware if _awaits(type(client)) else _BlockingMiddleware
    connections = client._client  # noqa: SLF001 - some clients' copies would make new ones
    return client.with_options(middleware=[*others, kind(layout)], http_client=connections)


def _subclassed(client: Any, layout: LaysOut, kinds: dict[type, type]) -> Any:  # noqa: ANN401 - any of OpenAI's clients
    kind = type(client)
    if (old := kind.__dict__.get("__prefixcache_layout__")) is not None:
        if old is layout:
            return client
        kind = kind.__bases__[0]
    view = client.copy()
    view.__class__ = kinds.get(kind) or kinds.setdefault(kind, _laid_out_class(kind, layout))
    return view


class _Request(Protocol):
    """A request as Anthropic's middleware sees it."""

    stream_cls: object

    @property
    def options(self) -> Options: ...

    @property
    def stream(self) -> bool: ...

    def copy(self, *, body: object) -> _Request: ...


class _Middleware:
    """Lays out a request on its way through an Anthropic client; the rest of the chain never sees the original."""

    def __init__(self, layout: LaysOut) -> None:
        self.layout = layout

    def changed(self, request: _Request) -> _Request:
        dialect = _anthropic_dialect(request)
        body = dialect and self.layout.prepared(request.options, dialect, "anthropic")
        if not body:
            return request
        copy = request.copy(body=body)
        copy.options.extra_json = None
        return copy

    def completes(self, request: _Request, answer: object) -> bool:
        """Tell whether ``answer`` is a stream that is to be completed; its wrapper parses it once and for all."""
        wanted = self.layout.stream_usage and request.stream and request.stream_cls is not None
        return wanted and _succeeded(answer) and _anthropic_dialect(request) is not None


class _BlockingMiddleware(_Middleware):
    def __call__(self, request: _Request, call_next: Callable[[_Request], object]) -> object:
        with answered_at_once() as call:
            answer = call_next(self.changed(request))
            if not _succeeded(answer):
                call.failed()
        if self.completes(request, answer):
            complete(cast("Any", answer).parse())
        _tell_answer_of(request, answer)
        return answer


class _AsyncMiddleware(_Middleware):
    async def __call__(self, request: _Request, call_next: Callable[[_Request], Awaitable[object]]) -> object:
        with answered_at_once() as call:
            answer = await call_next(self.changed(request))
            if not _succeeded(answer):
                call.failed()
        if self.completes(request, answer):
            complete(await cast("Any", answer).parse())
        _tell_answer_of(request, answer)
        return answer


def _anthropic_dialect(request: _Request) -> DialectName | None:
    return _ANTHROPIC_PATHS.get(request.options.url.partition("?")[0])


def _succeeded(answer: object) -> bool:
    """Tell whether ``answer`` is what the provider sent, and no error; other middleware may have put in its own."""
    return bool(getattr(getattr(answer, "http_response", None), "is_success", False))


def _tell_answer_of(request: _Request, answer: object) -> None:
    dialect = _anthropic_dialect(request)
    if dialect and not request.stream and _succeeded(answer):
        tell_answer(dialect, cast("Any", answer).http_response.json)


def _laid_out_class(kind: type[Any], layout: LaysOut) -> type:
    """Return a subclass of an OpenAI client's class that goes by its parent's name, and lays out each attempt.

    ``copy`` and ``with_options`` of its clients keep it.
    """
    provider: Provider = "azure" if any("azure" in base.__module__ for base in kind.__mro__) else "openai"
    parents = kind._prepare_options  # noqa: SLF001 - the SDK's hook

    def laid_out(client: Any, options: Options) -> Options:  # noqa: ANN401 - any of OpenAI's clients
        dialect = _OPENAI_PATHS.get(options.url)
        body = dialect and layout.prepared(options, dialect, provider, str(client.base_url))
        if body:
            # The SDK hands every attempt a copy of the options; the bodies inside are never changed.
            options.json_data, options.extra_json = body, None
        return options

    def prepare_options(client: object, options: Options) -> Options:
        return laid_out(client, parents(client, options))

    async def aprepare_options(client: object, options: Options) -> Options:
        return laid_out(client, await parents(client, options))

    def request(client: object, cast_to: object, options: Options, **kwargs: object) -> object:
        with answered_at_once():
            answer = kind.request(client, cast_to, options, **kwargs)
        _tell_openai_answer(options, answer)
        return answer

    async def arequest(client: object, cast_to: object, options: Options, **kwargs: object) -> object:
        with answered_at_once():
            answer = await kind.request(client, cast_to, options, **kwargs)
        _tell_openai_answer(options, answer)
        return answer

    awaiting: dict[str, object] = {"_prepare_options": aprepare_options, "request": arequest}
    hooks = awaiting if _awaits(kind) else {"_prepare_options": prepare_options, "request": request}
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), {**names, **hooks, "__prefixcache_layout__": layout})


def _tell_openai_answer(options: Options, answer: Any) -> None:  # noqa: ANN401 - a model of the SDK, or anything else
    dialect = _OPENAI_PATHS.get(options.url)
    free(answer)
    if dialect and hasattr(answer, "usage"):
        tell_answer(dialect, lambda: answer.model_dump(include={"usage", "model", "service_tier"}))


def _sdk_of(kind: type) -> str | None:
    roots = (base.__module__.partition(".")[0] for base in kind.__mro__ if hasattr(base, "_prepare_options"))
    return next((root for root in roots if root in ("anthropic", "openai")), None)


def _awaits(kind: type) -> bool:
    return inspect.iscoroutinefunction(cast("Any", kind)._prepare_options)  # noqa: SLF001 - the SDKs' hook
