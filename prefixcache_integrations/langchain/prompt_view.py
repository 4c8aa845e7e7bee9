"""Views of prompt templates that tell, beside the messages, what of their text differs from call to call.

The messages are those of the template. What is known of them goes along with the prompt value, from which the view of
a model takes it; what comes between that makes other messages of it loses it, and its requests are laid out without.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple, Self, TypeVar, cast

from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import ChatPromptValue, PromptValue, StringPromptValue
from langchain_core.prompts import (
    AIMessagePromptTemplate,
    BaseChatPromptTemplate,
    BasePromptTemplate,
    ChatMessagePromptTemplate,
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    FewShotPromptTemplate,
    HumanMessagePromptTemplate,
    PromptTemplate,
    SystemMessagePromptTemplate,
)
from langchain_core.prompts.message import BaseMessagePromptTemplate
from pydantic import PrivateAttr

from prefixcache_integrations.langchain.template_text import TextTemplate, filled, pieces_of
from prefixcache_integrations.prompt.known import NOTHING_KNOWN, KnownPrompt, KnownText

PromptT = TypeVar("PromptT", bound=BasePromptTemplate[Any])

_KNOWN: ContextVar[KnownPrompt] = ContextVar("prefixcache_integrations.known", default=NOTHING_KNOWN)
_views: dict[type, type[Any]] = {}

_TEXTS = (SystemMessagePromptTemplate, HumanMessagePromptTemplate, AIMessagePromptTemplate, ChatMessagePromptTemplate)
_SHARED_STATE = ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")


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


class ReadText(StringPromptValue):
    """The text of a prompt, and what is known of it."""

    _known: KnownPrompt = PrivateAttr(default=NOTHING_KNOWN)

    @classmethod
    def of(cls, value: PromptValue, text: KnownText | None) -> Self:
        """Return ``value`` with what is known of it: nothing, where ``text`` is another."""
        read = cls(text=value.to_string())
        if text is not None and text.text == read.text:
            read._known = KnownPrompt((text,), extended=False)
        return read

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what pickle keeps: the text alone, as the prompt value it is."""
        return StringPromptValue.model_validate, ({"text": self.text},)


ReadPrompt.__name__ = ReadPrompt.__qualname__ = ChatPromptValue.__name__  # what traces call it
ReadText.__name__ = ReadText.__qualname__ = StringPromptValue.__name__


def notice_prompt(prompt: object) -> None:
    """Remember what is known of the prompt that a model is about to be asked, for `known_prompt`."""
    if isinstance(prompt, PromptValue):
        _KNOWN.set(prompt._known if isinstance(prompt, ReadPrompt | ReadText) else NOTHING_KNOWN)  # noqa: SLF001 - ours


def known_prompt() -> KnownPrompt:
    """Return what is known of the prompt that a model was last asked in this context."""
    return _KNOWN.get()


def reading(prompt: PromptT, passed: Callable[[str], None]) -> PromptT:
    """Return a view of ``prompt`` that tells what each call fills in; ``passed`` is told where it cannot, and why.

    It is of a subclass that goes by the same name, and shares the prompt's state. A prompt of a class with a way of its
    own to make messages or text is returned as it is.
    """
    base = type(prompt)
    found = next(((kind, reader) for kind, reader in _READERS.items() if issubclass(base, kind)), None)
    if found is None or issubclass(base, found[1]):
        return prompt
    kind, reader = found
    if not _is_plain(base, kind):
        passed(f"{base.__name__} puts its messages together in a way of its own")
        return prompt
    for reason in _unread(prompt):
        passed(reason)
    view_class: Any = _views.get(base) or _views.setdefault(base, _view_class(base, reader))
    view = view_class.__new__(view_class)
    for name in _SHARED_STATE:
        object.__setattr__(view, name, getattr(prompt, name))
    return cast("PromptT", view)


def _is_plain(base: type, kind: type) -> bool:
    """Tell whether prompts of ``base`` are put together as those of ``kind`` are."""
    ways = ("format", "aformat", "format_messages", "aformat_messages", "format_prompt", "aformat_prompt")
    return all(getattr(base, way, None) is getattr(kind, way, None) for way in ways)


def _unread(prompt: object) -> Iterator[str]:
    for each in _text_templates(prompt):
        if each.input_variables and pieces_of(each) is None:
            how = f"a {each.template_format} template with more than variables in it"
            is_chosen = isinstance(each, FewShotPromptTemplate) and each.examples is None
            yield f"{'a template that selects its examples' if is_chosen else how} cannot be taken apart"


def _view_class(base: type, reader: type) -> type[Any]:
    names = {"__module__": base.__module__, "__qualname__": base.__qualname__, "__doc__": base.__doc__}
    metaclass: Any = type(base)
    view: type[Any] = metaclass(base.__name__, (reader, base), names)
    return view


class _ReadsMessages:
    """What a view does in the place of its template's class: it puts messages together as that does, and reads them."""

    def format_prompt(self, **given: object) -> ChatPromptValue:
        return _read([(each, each.messages()) for each in _pieces(cast("ChatPromptTemplate", self), given)])

    async def aformat_prompt(self, **given: object) -> ChatPromptValue:
        return _read([(each, await each.amessages()) for each in _pieces(cast("ChatPromptTemplate", self), given)])


class _ReadsText:
    """What a view of a template of one text does besides: it reads what was made of it."""

    def format_prompt(self, **given: object) -> PromptValue:
        value: PromptValue = super().format_prompt(**given)  # type: ignore[misc] # the template's class has it
        return ReadText.of(value, filled(cast("TextTemplate", self), given, ()))

    async def aformat_prompt(self, **given: object) -> PromptValue:
        value: PromptValue = await super().aformat_prompt(**given)  # type: ignore[misc] # as above
        return ReadText.of(value, filled(cast("TextTemplate", self), given, ()))


_READERS: Mapping[type, type] = {
    ChatPromptTemplate: _ReadsMessages,
    PromptTemplate: _ReadsText,
    FewShotPromptTemplate: _ReadsText,
}


class _Piece(NamedTuple):
    """A template in a prompt, and what it is filled with; ``fixed`` are the values that all calls have in common."""

    template: object
    values: Mapping[str, Any]
    fixed: Collection[str]

    def messages(self) -> list[BaseMessage]:
        if isinstance(self.template, BaseMessagePromptTemplate | BaseChatPromptTemplate):
            return self.template.format_messages(**self.values)
        return [cast("BaseMessage", self.template)]

    async def amessages(self) -> list[BaseMessage]:
        if isinstance(self.template, BaseMessagePromptTemplate | BaseChatPromptTemplate):
            return await self.template.aformat_messages(**self.values)
        return [cast("BaseMessage", self.template)]

    def texts(self, messages: Sequence[BaseMessage]) -> Iterator[KnownText]:
        """Yield what is known of the texts in the ``messages`` that the template has made."""
        for each in _text_templates(self.template):
            known = filled(each, self.values, self.fixed)
            if known is not None:
                yield known
        if _is_static(self.template):
            yield from (KnownText(text) for message in messages for text in _texts(message))


def _pieces(
    prompt: ChatPromptTemplate, given: Mapping[str, Any], fixed: Collection[str] = frozenset()
) -> Iterator[_Piece]:
    """Yield the templates of ``prompt`` and of the prompts in it; ``fixed`` are the ``given`` values that never change.

    Partials are asked for once, as functions may be among them.
    """
    values = prompt._merge_partial_and_user_variables(**given)  # noqa: SLF001 - as its class does
    own = {name for name, value in prompt.partial_variables.items() if name not in given and not callable(value)}
    for template in prompt.messages:
        if isinstance(template, ChatPromptTemplate) and _is_plain(type(template), ChatPromptTemplate):
            yield from _pieces(template, values, {*fixed, *own})
        else:
            yield _Piece(template, values, {*fixed, *own})


def _read(made: Sequence[tuple[_Piece, list[BaseMessage]]]) -> ReadPrompt:
    """Return the messages ``made`` of each template, with what is known of them."""
    texts = [text for piece, messages in made for text in piece.texts(messages)]
    extended = any(_is_open(piece.template) for piece, _ in made)
    return ReadPrompt.of([message for _, messages in made for message in messages], texts, extended=extended)


def _is_open(template: object) -> bool:
    """Tell whether a conversation may come of ``template``: it is neither a message, nor examples, nor one of text."""
    return not isinstance(template, (BaseMessage, FewShotChatMessagePromptTemplate, *_TEXTS))


def _is_static(template: object) -> bool:
    """Tell whether ``template`` makes the same messages in every call: it is one, or examples that nobody selects."""
    if not isinstance(template, FewShotChatMessagePromptTemplate):
        return isinstance(template, BaseMessage)
    partials = getattr(template.example_prompt, "partial_variables", {})
    return template.examples is not None and not any(map(callable, partials.values()))


def _text_templates(template: object) -> list[TextTemplate]:
    """Return the templates of one text that ``template`` is made of, or is."""
    if isinstance(template, ChatPromptTemplate):
        return [text for message in template.messages for text in _text_templates(message)]
    prompts = template.prompt if isinstance(template, _TEXTS) else template
    several = prompts if isinstance(prompts, list) else [prompts]
    return [each for each in several if isinstance(each, PromptTemplate | FewShotPromptTemplate)]


def _texts(message: BaseMessage) -> Iterator[str]:
    blocks = [message.content] if isinstance(message.content, str) else message.content
    for block in blocks:
        text = block if isinstance(block, str) else block.get("text")
        if isinstance(text, str):
            yield text
