"""Views of prompt templates that tell, beside the messages, what of their text differs from call to call.

The messages are those of the template. What is known of them goes along with the prompt value, from which the view of
a model takes it; what comes between that makes other messages of it loses it, and its requests are laid out without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Self, cast

from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import ChatPromptValue, PromptValue
from langchain_core.prompts import (
    AIMessagePromptTemplate,
    BaseChatPromptTemplate,
    ChatMessagePromptTemplate,
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    HumanMessagePromptTemplate,
    PromptTemplate,
    SystemMessagePromptTemplate,
)
from langchain_core.prompts.message import BaseMessagePromptTemplate
from pydantic import PrivateAttr

from prefixcache_integrations.langchain.template_text import filled, pieces
from prefixcache_integrations.prompt.known import NOTHING_KNOWN, KnownPrompt, KnownText

_KNOWN: ContextVar[KnownPrompt] = ContextVar("prefixcache_integrations.known", default=NOTHING_KNOWN)
_views: dict[type[ChatPromptTemplate], type[ChatPromptTemplate]] = {}

_TEXTS = (SystemMessagePromptTemplate, HumanMessagePromptTemplate, AIMessagePromptTemplate, ChatMessagePromptTemplate)
_SHARED_STATE = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
_OWN_WAYS = ("format_messages", "aformat_messages", "format_prompt", "aformat_prompt")


class ReadPrompt(ChatPromptValue):
    """Messages, and what is known of the texts in them."""

    _known: KnownPrompt = PrivateAttr(default=NOTHING_KNOWN)

    @classmethod
    def of(cls, messages: Sequence[BaseMessage], texts: Sequence[KnownText], *, extended: bool) -> Self:
        """Return a prompt of ``messages``; ``texts`` that are in none of them are left out."""
        value = cls(messages=messages)
        said = {text for message in messages for text in _texts(message)}
        value._known = KnownPrompt(tuple(each for each in texts if each.text in said), extended)
        return value

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what pickle keeps: the messages alone, as the prompt value they are."""
        return ChatPromptValue.model_validate, ({"messages": list(self.messages)},)


ReadPrompt.__name__ = ReadPrompt.__qualname__ = ChatPromptValue.__name__  # what traces call it


def notice_prompt(prompt: object) -> None:
    """Remember what is known of the prompt that a model is about to be asked, for `known_prompt`."""
    if isinstance(prompt, PromptValue):
        _KNOWN.set(prompt._known if isinstance(prompt, ReadPrompt) else NOTHING_KNOWN)  # noqa: SLF001 - our own class


def known_prompt() -> KnownPrompt:
    """Return what is known of the prompt that a model was last asked in this context."""
    return _KNOWN.get()


def reading(prompt: ChatPromptTemplate, passed: Callable[[str], None]) -> ChatPromptTemplate:
    """Return a view of ``prompt`` that tells what each call fills in; ``passed`` is told where it cannot, and why.

    It is of a subclass that goes by the same name, and shares the prompt's state. A prompt of a class with a way of its
    own to make messages is returned as it is.
    """
    base = type(prompt)
    if issubclass(base, _Reads):
        return prompt
    if any(getattr(base, way) is not getattr(ChatPromptTemplate, way) for way in _OWN_WAYS):
        passed(f"{base.__name__} puts its messages together in a way of its own")
        return prompt
    for reason in _unread(prompt):
        passed(reason)
    kind = _views.get(base) or _views.setdefault(base, _view_class(base))
    view = kind.__new__(kind)
    for name in _SHARED_STATE:
        object.__setattr__(view, name, getattr(prompt, name))
    return view


def _unread(prompt: ChatPromptTemplate) -> Iterator[str]:
    for template in prompt.messages:
        for each in _text_templates(template):
            if each.input_variables and pieces(each.template, each.template_format) is None:
                yield f"a {each.template_format} template with more than variables in it cannot be taken apart"


def _view_class(base: type[ChatPromptTemplate]) -> type[ChatPromptTemplate]:
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    metaclass: Any = type(base)
    view: type[ChatPromptTemplate] = metaclass(base.__name__, (_Reads, base), names)
    return view


class _Reads:
    """What a view does in the place of its template's class: it puts messages together as that does, and reads them."""

    def format_prompt(self, **given: object) -> ChatPromptValue:
        prompt = cast("ChatPromptTemplate", self)
        values = prompt._merge_partial_and_user_variables(**given)  # noqa: SLF001 - once, as functions may be among them
        return _read(prompt, [_messages(each, values) for each in prompt.messages], values, given)

    async def aformat_prompt(self, **given: object) -> ChatPromptValue:
        prompt = cast("ChatPromptTemplate", self)
        values = prompt._merge_partial_and_user_variables(**given)  # noqa: SLF001 - as above
        return _read(prompt, [await _amessages(each, values) for each in prompt.messages], values, given)


def _messages(template: object, values: Mapping[str, Any]) -> list[BaseMessage]:
    if isinstance(template, BaseMessagePromptTemplate | BaseChatPromptTemplate):
        return template.format_messages(**values)
    return [cast("BaseMessage", template)]


async def _amessages(template: object, values: Mapping[str, Any]) -> list[BaseMessage]:
    if isinstance(template, BaseMessagePromptTemplate | BaseChatPromptTemplate):
        return await template.aformat_messages(**values)
    return [cast("BaseMessage", template)]


def _read(
    prompt: ChatPromptTemplate,
    made: Sequence[Sequence[BaseMessage]],
    values: Mapping[str, object],
    given: Mapping[str, object],
) -> ReadPrompt:
    """Return the messages ``made`` of each template of ``prompt``, with what is known of them."""
    fixed = {name for name, value in prompt.partial_variables.items() if name not in given and not callable(value)}
    texts = list[KnownText]()
    for template, messages in zip(prompt.messages, made, strict=True):
        found = (filled(each, values, fixed) for each in _text_templates(template))
        texts += [each for each in found if each is not None]
        if _is_static(template):
            texts += [KnownText(text) for message in messages for text in _texts(message)]
    extended = any(map(_is_open, prompt.messages))
    return ReadPrompt.of([message for messages in made for message in messages], texts, extended=extended)


def _is_open(template: object) -> bool:
    """Tell whether a conversation may come of ``template``: it is neither a message, nor examples, nor one of text."""
    return not isinstance(template, (BaseMessage, FewShotChatMessagePromptTemplate, *_TEXTS))


def _is_static(template: object) -> bool:
    """Tell whether ``template`` makes the same messages in every call: it is one, or examples that nobody selects."""
    if not isinstance(template, FewShotChatMessagePromptTemplate):
        return isinstance(template, BaseMessage)
    partials = getattr(template.example_prompt, "partial_variables", {})
    return template.examples is not None and not any(map(callable, partials.values()))


def _text_templates(template: object) -> list[PromptTemplate]:
    prompts = template.prompt if isinstance(template, _TEXTS) else []
    return [each for each in (prompts if isinstance(prompts, list) else [prompts]) if isinstance(each, PromptTemplate)]


def _texts(message: BaseMessage) -> Iterator[str]:
    blocks = [message.content] if isinstance(message.content, str) else message.content
    for block in blocks:
        text = block if isinstance(block, str) else block.get("text")
        if isinstance(text, str):
            yield text
