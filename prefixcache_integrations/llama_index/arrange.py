"""The prompts of LlamaIndex's engines, arranged so that what stays the same comes first.

The chat engines put what they have retrieved into the system prompt, before the user's own instructions and the
history, so that nothing after it is ever found again. Here the system prompt keeps a sentence in its place, the history
follows as it was said, and what was retrieved stands in the latest message, before the question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from llama_index.core.base.llms.types import CacheControl, CachePoint, ChatMessage, MessageRole, TextBlock
from llama_index.core.llms import LLM
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate, SelectorPromptTemplate

_RETRIEVED = {"context_str": "context", "context_msg": "context", "existing_answer": "existing_answer"}
"""The variables that hold what differs from question to question, and the tags it is put in."""

_QUESTION = "{query_str}"


def arranged(llm: LLM, prompt: BasePromptTemplate, given: Mapping[str, object]) -> list[ChatMessage] | None:
    """Return the messages of ``prompt`` in an order that keeps its beginning, ``None`` where it is left as it is.

    Arranged are chat templates whose system message holds what was retrieved and whose last one is the question (the
    context and condense-plus-context chat engines). In the templates of the response synthesizers what was retrieved
    becomes a block of its own. Messages between are taken as they were said: they are no templates.
    """
    chosen = prompt.select(llm) if isinstance(prompt, SelectorPromptTemplate) else prompt
    if not isinstance(chosen, ChatPromptTemplate) or chosen.function_mappings or chosen.output_parser:
        return None
    values = {**chosen.kwargs, **given}
    values = {(chosen.template_var_mappings or {}).get(name, name): value for name, value in values.items()}
    first, *between = chosen.message_templates
    names = _variables(first)
    if names and between and between[-1].content == _QUESTION and _has(values, (*names, "query_str")):
        return _with_history(llm, first, between[:-1], values)
    return None if _has_history(chosen.message_templates) else _in_blocks(llm, chosen, values)


def _with_history(
    llm: LLM, system: ChatMessage, history: Sequence[ChatMessage], values: Mapping[str, object]
) -> list[ChatMessage]:
    text, retrieved = system.content or "", []
    for name in _variables(system):
        tag = _RETRIEVED[name]
        text = text.replace("{" + name + "}", f"(It is in the user's latest message, between <{tag}> and </{tag}>.)")
        retrieved.append(f"<{tag}>\n{values[name]}\n</{tag}>\n\n")
    question = ChatMessage(role=MessageRole.USER, content="".join(retrieved) + str(values["query_str"]))
    return [ChatMessage(role=system.role, content=text), *_marked(llm, history), question]


def _marked(llm: LLM, history: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Return ``history`` with a cache point at its end where the LLM can carry one: all behind it is said once."""
    if not history or not history[-1].content:
        return list(history)
    last = history[-1]
    return [*history[:-1], last.model_copy(update={"blocks": [*last.blocks, *_cache_point(llm)]})]


def _in_blocks(llm: LLM, prompt: ChatPromptTemplate, values: Mapping[str, object]) -> list[ChatMessage] | None:
    """Return the messages with the one that ends in a question cut behind what was retrieved, and marked there."""
    last = prompt.message_templates[-1]
    names = [name for name in _variables(last) if _RETRIEVED[name] == "context"]
    if len(names) != 1 or len(last.blocks) != 1 or not _has(values, names):
        return None
    place = "{" + names[0] + "}"
    head, _, tail = (last.content or "").partition(place)
    if not tail.strip() or place in tail:
        return None
    blocks = [TextBlock(text=head + place), *_cache_point(llm), TextBlock(text=tail)]
    cut = last.model_copy(update={"blocks": blocks})
    return ChatPromptTemplate(message_templates=[*prompt.message_templates[:-1], cut]).format_messages(
        llm=llm, **cast("Any", values)
    )


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
