"""One fault per class, put at a place chosen by a seed, with what a diagnosis has to say of it.

A fault returns the spoiled case, ``None`` where the conversation or the provider has no place for it.
"""

# ruff: noqa: ARG001, D103, PLR2004 - every fault takes the same, and its name says what it does

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks.diagnosis.shapes import Body, Shape, unmark_claude


@dataclass(frozen=True)
class Case:
    """A faulty pair of requests and the clean pair it was made from.

    ``path`` and ``offset`` are ``None`` where the pair does not differ in content. ``begun``: whether the response to
    ``previous`` had begun. ``dropped``: how many of the last requests the provider has lost the entries of.
    """

    reason: str
    earlier: Sequence[Body]
    clean: tuple[Body, Body]
    previous: Body
    current: Body
    path: str | None = None
    offset: int | None = None
    elapsed: float = 1.0
    begun: bool = True
    dropped: int = 0


Fault = Callable[[random.Random, Case, Shape], "Case | None"]


def pair(rng: random.Random, bodies: Sequence[Body]) -> Case:
    """Return a clean pair out of a conversation, as a case to be spoiled."""
    turn = rng.randrange(1, len(bodies))
    previous, current = bodies[turn - 1], bodies[turn]
    return Case(
        reason="",
        earlier=bodies[: turn - 1],
        clean=(previous, current),
        previous=copy.deepcopy(previous),
        current=copy.deepcopy(current),
    )


def _spoiled(rng: random.Random, text: str) -> tuple[str, int]:
    """Return ``text`` with a character replaced or put in, or cut off, and where the first difference is."""
    at = rng.randrange(len(text)) if text else 0
    return rng.choice((text[:at] + "§" + text[at + 1 :], text[:at] + "§" + text[at:], text[:at] + "§")), at


def _shared(left: str, right: str) -> int:
    """Return where two texts part."""
    parted = (at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b)
    return next(parted, min(len(left), len(right)))


def _texts(body: Body, count: int) -> list[tuple[dict, str, str]]:
    """Return holder, key and path of every text in the first ``count`` messages, system ones left out."""
    found = []
    for index, message in enumerate(body["messages"][:count]):
        head = f"messages[{index}]"
        if message["role"] == "system":
            continue
        content = message.get("content")
        if isinstance(content, str):
            found.append((message, "content", f"{head}.content"))
        for number, block in enumerate(content if isinstance(content, list) else ()):
            path = f"{head}.content[{number}]"
            found += [(block, key, f"{path}.{key}") for key in ("text", "content") if isinstance(block.get(key), str)]
            given = block.get("input", {})
            found += [(given, key, f"{path}.input.{key}") for key in given if isinstance(given[key], str)]
        for number, call in enumerate(message.get("tool_calls", ())):
            found.append((call["function"], "arguments", f"{head}.tool_calls[{number}].function.arguments"))
    return found


def history_rewritten(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    texts = [row for row in _texts(case.current, len(case.previous["messages"])) if row[0][row[1]]]
    holder, key, path = rng.choice(texts)
    holder[key], offset = _spoiled(rng, holder[key])
    return replace(case, path=path, offset=offset)


def system_changed(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    holder, key, path = (
        (case.current["system"][0], "text", "system[0].text")
        if shape.claude
        else (case.current["messages"][0], "content", "messages[0].content")
    )
    holder[key], offset = _spoiled(rng, holder[key])
    return replace(case, path=path, offset=offset)


def model_changed(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    case.current["model"] = shape.sibling
    return replace(case, path="model", offset=_shared(shape.model, shape.sibling))


# Tools.


def _function(tool: dict) -> tuple[dict, str, str]:
    """Return where name and description stand, the path to there, and the name of the schema."""
    return (tool["function"], ".function", "parameters") if "function" in tool else (tool, "", "input_schema")


def _tool_place(case: Case, index: int) -> Case:
    old, new = case.previous["tools"][index:], case.current["tools"][index:]
    if not old or not new:
        return replace(case, path=f"tools[{index}]", offset=0)
    (left, head, _), (right, _, _) = _function(old[0]), _function(new[0])
    return replace(case, path=f"tools[{index}]{head}.name", offset=_shared(left["name"], right["name"]))


def tool_set_changed(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    tools = case.current.get("tools")
    if not tools:
        return None
    index = rng.randrange(len(tools))
    if rng.random() < 0.5:
        del tools[index]
    else:
        extra = copy.deepcopy(tools[index])
        _function(extra)[0]["name"] = f"extra_{rng.randrange(100)}"
        index = rng.randrange(len(tools) + 1)
        tools.insert(index, extra)
    return _tool_place(case, index)


def tool_order_changed(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    tools = case.current.get("tools")
    if not tools:
        return None
    first, second = sorted(rng.sample(range(len(tools)), 2))
    tools[first], tools[second] = tools[second], tools[first]
    return _tool_place(case, first)


def tool_schema_changed(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    tools = case.current.get("tools")
    if not tools:
        return None
    index = rng.randrange(len(tools))
    function, head, schema = _function(tools[index])
    fields = [
        (f".{schema}.properties.{name}.description", field)
        for name, field in function[schema].get("properties", {}).items()
        if field.get("description")
    ]
    inner, holder = rng.choice([(".description", function), *fields])
    holder["description"], offset = _spoiled(rng, holder["description"])
    return replace(case, path=f"tools[{index}]{head}{inner}", offset=offset)


# Order, truncation, images.


def document_order_changed(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    runs = [
        (index, message["content"])
        for index, message in enumerate(case.current["messages"][: len(case.previous["messages"])])
        if message["role"] == "user" and isinstance(message["content"], list) and _documents(message["content"]) > 1
    ]
    if not runs:
        return None
    index, content = rng.choice(runs)
    first, second = sorted(rng.sample(range(_documents(content)), 2))
    left, right = content[first], content[second]
    if left["text"] == right["text"]:
        return None
    content[first], content[second] = right, left
    path = f"messages[{index}].content[{first}].text"
    return replace(case, path=path, offset=_shared(left["text"], right["text"]))


def _documents(content: list[dict]) -> int:
    return len(content) - 1 if all(block["type"] == "text" for block in content) else 0


def history_truncated(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    messages = case.current["messages"]
    start = 0 if shape.claude else 1
    ends = [
        index
        for index in range(start + 2, len(case.previous["messages"]))
        if messages[index]["role"] == "user" and _said(messages[index]) is not None
    ]
    if not ends:
        return None
    del messages[start : rng.choice(ends)]
    for index, (old, new) in enumerate(zip(case.previous["messages"], messages, strict=False)):
        left, right = _said(old), _said(new)
        if old["role"] == new["role"] and left == right:
            continue
        field = "content" if isinstance(new["content"], str) else "content[0].text"
        return replace(case, path=f"messages[{index}].{field}", offset=_shared(left, right))
    return None


def _said(message: dict) -> str | None:
    content = message.get("content")
    if isinstance(content, str):
        return content
    return content[0].get("text") if content else None


def images_changed(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    images = [
        (f"messages[{index}].content[{number}]", block)
        for index, message in enumerate(case.current["messages"][: len(case.previous["messages"])])
        for number, block in enumerate(message["content"] if isinstance(message.get("content"), list) else ())
        if block["type"] in ("image", "image_url")
    ]
    if not images:
        return None
    path, block = rng.choice(images)
    if shape.claude:
        block["source"]["data"], offset = _spoiled(rng, block["source"]["data"])
        return replace(case, path=f"{path}.source.data", offset=offset)
    if rng.random() < 0.3:
        block["image_url"]["detail"] = "low"
        return replace(case, path=f"{path}.image_url.detail", offset=0)
    block["image_url"]["url"], offset = _spoiled(rng, block["image_url"]["url"])
    return replace(case, path=f"{path}.image_url.url", offset=offset)


# Settings.


def thinking_changed(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    if not shape.claude:
        return None
    case.current["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    if rng.random() < 0.5:
        return replace(case, path="thinking.budget_tokens", offset=0)
    case.previous["thinking"] = {"type": "enabled", "budget_tokens": 2048}
    return replace(case, path="thinking.budget_tokens", offset=0)


def effort_changed(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    if shape.claude:
        case.current["output_config"] = {"effort": "low"}
        return replace(case, path="output_config.effort", offset=0)
    case.current["reasoning_effort"] = rng.choice(("low", "high"))
    return replace(case, path="reasoning_effort", offset=0)


def tool_choice_changed(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    if not shape.claude or not case.current.get("tools"):
        return None
    case.current["tool_choice"] = {"type": "any"}
    return replace(case, path="tool_choice.type", offset=0)


def format_changed(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    def schema(text: str) -> dict:
        return {"type": "object", "properties": {"answer": {"type": "string", "description": text}}}

    text = "what to say, in one sentence"
    spoiled, offset = _spoiled(rng, text)
    if shape.claude:
        outer, path = "output_config", "output_config.format.schema"
        forms = [{"format": {"type": "json_schema", "schema": schema(each)}} for each in (text, spoiled)]
    else:
        outer, path = "response_format", "response_format.json_schema.schema"
        forms = [
            {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema(each)}}
            for each in (text, spoiled)
        ]
    for body in (*case.earlier, *case.clean, case.previous):
        body[outer] = copy.deepcopy(forms[0])
    case.current[outer] = forms[1]
    return replace(case, path=f"{path}.properties.answer.description", offset=offset)


def cache_key_changed(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    if not shape.model.startswith("gpt-5.6"):
        return None
    case.previous["prompt_cache_key"], case.current["prompt_cache_key"] = "team-a", "team-b"
    return replace(case, path="prompt_cache_key", offset=5)


# Markers, size, time, provider.


def marker_missing(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    if not (shape.claude or shape.model.startswith("gpt-5.6")):
        return None
    victim = rng.choice((case.previous, case.current))
    if not shape.claude:
        victim["prompt_cache_options"] = {"mode": "explicit"}
    elif rng.random() < 0.5:
        unmark_claude(victim)
    else:
        victim["messages"][-1]["content"][-1].pop("cache_control")
    return case


def marker_beyond_lookback(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    if not (shape.claude or shape.model.startswith("gpt-5.6")):
        return None
    added = len(case.current["messages"]) - len(case.previous["messages"])
    tail = case.current["messages"][-added:]
    for number in range(rng.randint(24, 40)):
        said = f"step {number}: {rng.random()}"
        tail[1:1] = [
            {"role": "user", "content": [{"type": "text", "text": said}]},
            {"role": "assistant", "content": [{"type": "text", "text": said}]},
        ]
    case.current["messages"][-added:] = tail
    return case


def below_minimum(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    return case


def ttl_expired(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    lifetime = 1800 if shape.model.startswith("gpt-5.6") else 300
    return replace(case, elapsed=lifetime + rng.random() * 3000)


def not_yet_readable(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    return replace(case, elapsed=rng.random(), begun=False)


def dropped_by_provider(rng: random.Random, case: Case, shape: Shape) -> Case | None:
    return replace(case, dropped=rng.randint(1, len(case.earlier) + 1))


CONTENT: tuple[Fault, ...] = (
    model_changed,
    tool_set_changed,
    tool_order_changed,
    tool_schema_changed,
    system_changed,
    document_order_changed,
    history_rewritten,
    history_truncated,
    images_changed,
    thinking_changed,
    effort_changed,
    tool_choice_changed,
    format_changed,
    cache_key_changed,
)
OTHER: tuple[Fault, ...] = (
    marker_missing,
    marker_beyond_lookback,
    below_minimum,
    ttl_expired,
    not_yet_readable,
    dropped_by_provider,
)


def inject(fault: Fault, rng: random.Random, bodies: Sequence[Body], shape: Shape) -> Case | None:
    """Return a case of ``fault`` in this conversation, ``None`` where it has no place for it."""
    if len(bodies) < 2:
        return None
    case = fault(rng, pair(rng, copy.deepcopy(list(bodies))), shape)
    return None if case is None else replace(case, reason=fault.__name__)
