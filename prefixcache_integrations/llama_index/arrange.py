"""The prompts of LlamaIndex's engines, arranged so that what stays the same comes first.

The chat engines put what they have retrieved into the system prompt, before the user's own instructions and the
history, so that nothing after it is ever found again. Here the system prompt keeps a sentence in its place, the history
follows as it was said, and what was retrieved stands in the latest message, before the question.

The response synthesizers say what is to be done with the retrieved text behind it. Here that is said before it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from llama_index.core.base.llms.types import CacheControl, CachePoint, ChatMessage, MessageRole, TextBlock
from llama_index.core.llms import LLM
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate, PromptTemplate, SelectorPromptTemplate

from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.retrieved import IN_TAGS

_RETRIEVED = {"context_str": "context", "context_msg": "context", "existing_answer": "existing_answer"}
"""The variables that hold what differs from question to question, and the tags it is put in."""

_QUESTION = "{query_str}"
_VARIABLE = re.compile(r"\{\w+\}")
_DELIMITER = re.compile(r"[\W\d_]*|\s*</[\w-]+>\s*")
"""A line that closes what stands above it, and says nothing itself."""
_SENTENCE_END = (".", "!", "?")
_INSTRUCTIONS = (MessageRole.SYSTEM, MessageRole.DEVELOPER)


def arranged(llm: LLM, prompt: BasePromptTemplate, given: Mapping[str, object]) -> list[ChatMessage] | None:
    """Return the messages of ``prompt`` in an order that keeps its beginning, ``None`` where it is left as it is.

    Arranged are chat templates whose system message holds what was retrieved and whose last one is the question (the
    context and condense-plus-context chat engines). In the templates of the response synthesizers what was retrieved
    becomes a block of its own, and sentences between it and the question go to the system message. Messages
    between are taken as they were said: they are no templates.
    """
    chosen = _as_chat(prompt.select(llm) if isinstance(prompt, SelectorPromptTemplate) else prompt)
    if chosen is None or chosen.function_mappings or chosen.output_parser:
        return None
    values = {**chosen.kwargs, **given}
    values = {(chosen.template_var_mappings or {}).get(name, name): value for name, value in values.items()}
    first, *between = chosen.message_templates
    names = _variables(first)
    if names and between and between[-1].content == _QUESTION and _has(values, (*names, "query_str")):
        return _with_history(llm, first, between[:-1], values)
    return None if _has_history(chosen.message_templates) else _in_blocks(llm, chosen, values)


def _as_chat(prompt: BasePromptTemplate) -> ChatPromptTemplate | None:
    """Return the messages that ``prompt`` makes as templates; ``None`` where they are made in another way."""
    if type(prompt) is PromptTemplate:
        message = ChatMessage(role=MessageRole.USER, content=prompt.template)
        return ChatPromptTemplate(
            message_templates=[message],
            output_parser=prompt.output_parser,
            template_var_mappings=prompt.template_var_mappings,
            function_mappings=prompt.function_mappings,
            **cast("Any", prompt.kwargs),
        )
    return prompt if isinstance(prompt, ChatPromptTemplate) else None


def _with_history(
    llm: LLM, system: ChatMessage, history: Sequence[ChatMessage], values: Mapping[str, object]
) -> list[ChatMessage]:
    text, retrieved = system.content or "", []
    for name in _variables(system):
        tag = _RETRIEVED[name]
        text = text.replace("{" + name + "}", IN_TAGS.format(tag=tag))
        retrieved.append(f"<{tag}>\n{values[name]}\n</{tag}>\n\n")
    found, asked = "".join(retrieved), str(values["query_str"])
    blocks = [found, asked] if asked.strip() else [found + asked]
    question = ChatMessage(role=MessageRole.USER, blocks=[TextBlock(text=each) for each in blocks])
    return [ChatMessage(role=system.role, content=text), *_marked(llm, history), question]


def _marked(llm: LLM, history: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Return ``history`` with a cache point at its end where the LLM can carry one: all behind it is said once."""
    if not history or not history[-1].content:
        return list(history)
    last = history[-1]
    return [*history[:-1], last.model_copy(update={"blocks": [*last.blocks, *_cache_point(llm)]})]


def _in_blocks(llm: LLM, prompt: ChatPromptTemplate, values: Mapping[str, object]) -> list[ChatMessage] | None:
    """Return the messages with the one that ends in a question cut behind what was retrieved."""
    *before, last = prompt.message_templates
    names = [name for name in _variables(last) if _RETRIEVED[name] == "context"]
    if len(names) != 1 or len(last.blocks) != 1 or not _has(values, names):
        return None
    place = "{" + names[0] + "}"
    head, _, tail = (last.content or "").partition(place)
    if not tail.strip() or place in tail:
        return None
    cut = _cut(tail)
    leading = _instructed(before, cut.instruction)
    templates = [*leading, *_parted(llm, last, head + place + cut.closing, cut.question)]
    return ChatPromptTemplate(message_templates=templates).format_messages(llm=llm, **cast("Any", values))


def _instructed(before: Sequence[ChatMessage], instruction: str) -> list[ChatMessage]:
    """Return the messages ``before`` the question with ``instruction`` at the end of their system message."""
    if not instruction:
        return list(before)
    if not before or before[0].role not in _INSTRUCTIONS:
        return [ChatMessage(role=MessageRole.SYSTEM, content=instruction), *before]
    return [ChatMessage(role=before[0].role, content=f"{before[0].content}\n\n{instruction}"), *before[1:]]


class _Cut(NamedTuple):
    """What stands behind the retrieved text: what closes it, what is to be done with it, and what is asked."""

    closing: str
    instruction: str
    question: str


def _cut(tail: str) -> _Cut:
    """Cut ``tail``; sentences that end no paragraph of their own stay with the question."""
    lines = tail.splitlines(keepends=True)
    asked = next((number for number, line in enumerate(lines) if _VARIABLE.search(line)), len(lines))
    start = next((number for number in range(asked) if not _DELIMITER.fullmatch(lines[number].strip())), asked)
    end = next((number for number in range(asked, start, -1) if _says(lines[number - 1])), start)
    closing, instruction = "".join(lines[:start]), "".join(lines[start:end]).strip()
    return _Cut(closing, instruction, "".join(lines[end:]))


def _says(line: str) -> bool:
    """Tell whether a line ends a sentence, as a label in front of the question or a delimiter does not."""
    return line.rstrip().endswith(_SENTENCE_END)


def _parted(llm: LLM, last: ChatMessage, retrieved: str, question: str) -> list[ChatMessage]:
    """Return ``last`` with a block boundary before the question, or as two messages where blocks would be joined."""
    if _joins_blocks(llm):
        return [last.model_copy(update={"blocks": [TextBlock(text=text)]}) for text in (retrieved, question)]
    blocks = [TextBlock(text=retrieved), TextBlock(text=question)]
    return [last.model_copy(update={"blocks": blocks})]


def _joins_blocks(llm: LLM) -> bool:
    """Tell whether the integration joins blocks of text, and the provider finds again what ends with a block."""
    ours = any(base.__module__.startswith("llama_index.llms.openai.") for base in type(llm).__mro__)
    return ours and resolve(llm.metadata.model_name).regime == "breakpoints"


def _cache_point(llm: LLM) -> list[CachePoint]:
    """Return a marker for the integration that carries it to the wire; others refuse it."""
    takes_it = any(base.__module__ == "llama_index.llms.anthropic.base" for base in type(llm).__mro__)
    return [CachePoint(cache_control=CacheControl(type="ephemeral"))] if takes_it else []


def _variables(message: ChatMessage) -> list[str]:
    text = message.content or ""
    return [name for name in _RETRIEVED if "{" + name + "}" in text]


def _has_history(templates: Sequence[ChatMessage]) -> bool:
    return any(message.role in (MessageRole.ASSISTANT, MessageRole.TOOL) for message in templates)


def _has(values: Mapping[str, object], names: Sequence[str]) -> bool:
    return all(name in values for name in names)
