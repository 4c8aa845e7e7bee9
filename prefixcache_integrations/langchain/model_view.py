"""Views of chat models that lay out every request at the last moment: where LangChain has built the provider's body.

There and only there all is known that goes to the wire: the model a fallback chose, the tools a structured
output added, what every other middleware changed. No LangChain object is touched on the way.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar, cast

from langchain.chat_models.base import _DECLARATIVE_METHODS, _ConfigurableModel
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.configurable import DynamicRunnable
from pydantic import BaseModel

from prefixcache_integrations import dialects, profiles, tokens
from prefixcache_integrations.awaited import answer_to
from prefixcache_integrations.caching import current_namespace
from prefixcache_integrations.canonical import DialectName, Level, Tokenizer
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.dialects import Dialect
from prefixcache_integrations.dialects.reader import BodyReader
from prefixcache_integrations.events import Observer, PassedThrough, checked_observers, tell
from prefixcache_integrations.flows.prepare import checked_level, prepare
from prefixcache_integrations.langchain.claude_usage import TellsUsage
from prefixcache_integrations.langchain.composed import rebuilt
from prefixcache_integrations.langchain.prompt_view import known_prompt, notice_prompt
from prefixcache_integrations.langchain.traces import LAYOUT
from prefixcache_integrations.langchain.watched import Watches, provider_of
from prefixcache_integrations.memories import MemoryChoice, chosen_memory
from prefixcache_integrations.on_the_wire import follower, notice
from prefixcache_integrations.prompt.document_rules import ANY_ORDER, DocumentRules, checked_rules
from prefixcache_integrations.watching import WatchedCall, Watcher

RunnableT = TypeVar("RunnableT", bound=Runnable[Any, Any])

# The modules of LangChain's classes that build a provider's body, and the format of that body.
_BUILDERS: Mapping[str, DialectName] = {
    "langchain_anthropic.chat_models": "anthropic_messages",
    "langchain_openai.chat_models.base": "openai_chat",
}
# Arguments of the SDKs' methods that are no fields of the body, or not as they stand.
_NO_BODY_FIELDS = frozenset({"extra_body", "extra_headers", "extra_query", "timeout", "text_format"})
_SHARED_STATE = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")


class ModelLayout:
    """How requests are laid out, and the views of models that do it.

    Observers are told what `prepare` tells, `PrefixBroken` for what loses tokens it could have read, and once per class
    that this package cannot lay out its models. ``memory`` is what was sent before, and grows: by default one of
    its own; with ``None`` every request stands alone. ``documents`` is what may be done with them at level ``arrange``.
    Safe to share between threads.
    """

    def __init__(
        self,
        *,
        level: Level = "canonical",
        observers: Sequence[Observer] = (),
        tokenizer: Tokenizer | None = None,
        memory: MemoryChoice = "own",
        documents: DocumentRules = ANY_ORDER,
    ) -> None:
        self._memory = chosen_memory(memory, observers)
        self._documents = checked_rules(documents)
        self.level = checked_level(level)
        self._observers = checked_observers(observers)
        self._tokenizer = tokens.chosen(tokenizer)
        self._reader = BodyReader()
        self.watcher = Watcher(self._observers, self._tokenizer) if self._observers else None
        self._views: dict[type[BaseChatModel], type[BaseChatModel]] = {}
        self._passed: set[type] = set()

    def laid_out(self, model: RunnableT) -> RunnableT:
        """Return a view of ``model`` whose requests are laid out; ``model`` itself goes on as it is.

        The view is of a subclass of the model's class and shares its state: clients, settings, later changes to
        either. What wraps a model (bindings, retries, fallbacks, configurable fields) is wrapped around the view
        again. A view of another layout gives way to this one's. A model whose class builds no body that we know is
        returned as it is.
        """
        match model:
            case RunnableBindingBase() | DynamicRunnable() | RunnableWithFallbacks():
                view: Runnable[Any, Any] = rebuilt(model, self.laid_out)
            case _ConfigurableView() if model.layout is self:
                return model
            case _ConfigurableModel():
                view = _ConfigurableView(model, self)
            case BaseChatModel() if _builder(type(model)) is not None:
                view = self._view(model)
            case _:
                self._tell_passed(type(model))
                return model
        return cast("RunnableT", view)

    def body(self, model: BaseChatModel, payload: dict[str, Any]) -> dict[str, Any]:
        """Return ``payload``, which LangChain built for ``model``, laid out; ``payload`` itself stays as it is."""
        dialect, stand_ins = self._reader.reading(_dialect(model, payload)), _stand_ins(model, payload)
        fields = _fields(payload, stand_ins)
        provider, call = provider_of(model), follower(self.watcher)
        now = time.time()
        prepared = prepare(
            fields,
            dialect,
            lambda name: profiles.resolve(name, provider, _base_url(model)),
            self._tokenizer,
            level=self.level,
            observers=self._observers,
            memory=self._memory,
            now=now,
            namespace=current_namespace(),
            answer=answer_to(self._memory, now),
            documents=self._documents,
            changes=call.changes if isinstance(call, WatchedCall) else None,
            known=known_prompt(),
        )
        notice(dialect, prepared)
        extra = _extra_body(payload)
        elsewhere = {*stand_ins, *extra}
        as_they_were = {name: payload[name] for name in payload if name in stand_ins or name in _NO_BODY_FIELDS}
        if extra:
            as_they_were["extra_body"] = {name: prepared.body[name] for name in extra if name in prepared.body}
        return {name: value for name, value in prepared.body.items() if name not in elsewhere} | as_they_were

    def _view(self, model: BaseChatModel) -> BaseChatModel:
        base = type(model)
        other = base.__dict__.get("__prefixcache_layout__")
        if other is self:
            return model
        base = base if other is None else base.__bases__[-1]
        kind = self._views.get(base) or self._views.setdefault(base, _view_class(base, self))
        view = kind.__new__(kind)
        for name in _SHARED_STATE:
            object.__setattr__(view, name, getattr(model, name))
        return view

    def _tell_passed(self, kind: type) -> None:
        if kind not in self._passed:
            self._passed.add(kind)
            tell(self._observers, PassedThrough(reason=f"{kind.__name__} builds no request body that can be laid out"))


def _base_url(model: BaseChatModel) -> str | None:
    """Return where the requests of a model of langchain-openai go, ``None`` for any other."""
    client = getattr(model, "root_client", None) or getattr(model, "root_async_client", None)
    return None if client is None else str(client.base_url)


def _builder(kind: type) -> DialectName | None:
    """Return the format of the bodies that ``_get_request_payload`` of a model class builds, ``None`` without one."""
    if not hasattr(kind, "_get_request_payload"):
        return None
    return next((_BUILDERS[base.__module__] for base in kind.__mro__ if base.__module__ in _BUILDERS), None)


def _view_class(base: type[BaseChatModel], layout: ModelLayout) -> type[BaseChatModel]:
    """Return a subclass that goes by its parent's name: LangChain's cache keys and traces are made of it."""
    mixins = (
        (_AsksForUsage, hasattr(base, "_should_stream_usage")),
        (TellsUsage, hasattr(base, "_make_message_chunk_from_anthropic_event")),
    )
    parents = (*(mixin for mixin, is_wanted in mixins if is_wanted), Watches, _LaysOut, base)
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    metaclass: Any = type(base)
    view: type[BaseChatModel] = metaclass(
        base.__name__, parents, {**names, "__prefixcache_layout__": layout, "__prefixcache_watcher__": layout.watcher}
    )
    return view


class _LaysOut:
    """What a view does in the place of its model's class: it lays out the body that the class has built."""

    __prefixcache_layout__: ClassVar[ModelLayout]

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        notice_prompt(model_input)
        prompt: PromptValue = super()._convert_input(model_input)  # type: ignore[misc] # the model's class has it
        return prompt

    def _get_request_payload(self, *args: object, **kwargs: object) -> dict[str, Any]:
        payload = super()._get_request_payload(*args, **kwargs)  # type: ignore[misc] # as above
        return self.__prefixcache_layout__.body(cast("BaseChatModel", self), payload)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: object) -> LangSmithParams:
        told = super()._get_ls_params(stop=stop, **kwargs)  # type: ignore[misc] # as above
        return cast("LangSmithParams", {**told, LAYOUT: self.__prefixcache_layout__.level})


class _AsksForUsage:
    """What a view of langchain-openai's models does besides: it asks for usage on streams unless told not to.

    They leave it out by themselves as soon as the base URL or the HTTP client is not the default one.
    """

    def _should_stream_usage(self, stream_usage: bool | None = None, **kwargs: object) -> bool:  # noqa: FBT001 - theirs
        model: Any = self
        options = (kwargs.get("stream_options"), model.model_kwargs.get("stream_options"))
        said = (stream_usage, *((as_object(each) or {}).get("include_usage") for each in options), model.stream_usage)
        return bool(next((each for each in said if isinstance(each, bool)), True))


class _ConfigurableView(_ConfigurableModel):
    """A view of a model that `init_chat_model` makes anew for each call, from the call's configuration."""

    def __init__(self, model: _ConfigurableModel, layout: ModelLayout) -> None:
        super().__init__()
        self.__dict__.update(model.__dict__)
        self.layout = layout

    def _model(self, config: RunnableConfig | None = None) -> Runnable[Any, Any]:
        plain = _ConfigurableModel()
        plain.__dict__.update(self.__dict__, _queued_declarative_operations=[])
        model = self.layout.laid_out(plain._model(config))  # noqa: SLF001 - its own class
        for name, args, kwargs in self._queued_declarative_operations:
            model = getattr(model, name)(*args, **kwargs)
        return model

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the model has
        found = super().__getattr__(name)
        if name not in _DECLARATIVE_METHODS:
            return found
        return lambda *args, **kwargs: self.layout.laid_out(found(*args, **kwargs))

    def with_config(self, config: RunnableConfig | None = None, **kwargs: object) -> _ConfigurableModel:
        return self.layout.laid_out(super().with_config(config, **kwargs))


_ConfigurableView.__name__ = _ConfigurableModel.__name__  # what schemas, graphs and traces call it
_ConfigurableView.__module__ = _ConfigurableModel.__module__


def wire_body(model: BaseChatModel, payload: Mapping[str, Any]) -> tuple[Dialect, dict[str, object]]:
    """Return what ``payload``, which LangChain built for ``model``, is on the wire: its format and its fields."""
    return _dialect(model, payload), _fields(payload, _stand_ins(model, payload))


def _dialect(model: BaseChatModel, payload: Mapping[str, Any]) -> Dialect:
    builder = _builder(type(model)) or "openai_chat"
    return dialects.by_name("openai_responses" if "input" in payload else builder)


def _fields(payload: Mapping[str, Any], stand_ins: Mapping[str, object]) -> dict[str, object]:
    own = {name: value for name, value in payload.items() if name not in _NO_BODY_FIELDS}
    return {**own, **stand_ins, **_extra_body(payload)}


def _extra_body(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields that the SDK will merge into the body, over those it has."""
    return payload.get("extra_body") or {}


def _stand_ins(model: BaseChatModel, payload: Mapping[str, Any]) -> dict[str, object]:
    """Return fields as they will be on the wire, where the payload does not hold them yet.

    Azure takes the model from the deployment; the SDKs turn a Pydantic class into its JSON schema.
    """
    fields: dict[str, object] = {}
    if not payload.get("model"):
        names = (getattr(model, name, None) for name in ("model_name", "deployment_name"))
        fields["model"] = next(filter(None, names), "")
    chat, responses = payload.get("response_format"), payload.get("text_format")
    if isinstance(chat, type):
        fields["response_format"] = {"type": "json_schema", "json_schema": _schema(chat)}
    if isinstance(responses, type):
        fields["text"] = {**(payload.get("text") or {}), "format": {"type": "json_schema", **_schema(responses)}}
    return fields


def _schema(kind: type) -> dict[str, object]:
    schema = kind.model_json_schema() if issubclass(kind, BaseModel) else {}
    return {"name": kind.__name__, "schema": schema, "strict": True}
