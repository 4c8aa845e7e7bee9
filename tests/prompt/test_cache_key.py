"""`prompt_cache_key`: who gets one, who shares it, and how a busy one is spread."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefixcache_integrations import dialects
from prefixcache_integrations.canonical import Level
from prefixcache_integrations.profiles import Provider, resolve
from prefixcache_integrations.prompt.cache_key import CONVERSATIONS, KEYS, Route, Routes, _way
from prefixcache_integrations.prompt.layout import Decision, decide
from prefixcache_integrations.prompt.segments import segments, token_counts
from prefixcache_integrations.prompt.stability import PromptMemory
from tests.prompt.words import WORDS

STATIC = "instruction " * 1500


def chat(question: str = "Where is it?", system: str = STATIC, model: str = "gpt-5.6", **fields: Any) -> dict[str, Any]:
    said = [{"role": "system", "content": system}] if system else []
    return {"model": model, "messages": [*said, {"role": "user", "content": question}], **fields}


def responses(question: str = "Where is it?", **fields: Any) -> dict[str, Any]:
    return {"model": "gpt-5.6", "instructions": STATIC, "input": question, **fields}


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}


def decided(
    body: dict[str, Any],
    *,
    provider: Provider | None = None,
    base_url: str | None = None,
    memory: PromptMemory | None = None,
    now: float = 0.0,
    level: Level = "canonical",
    namespace: str = "",
) -> Decision:
    request = dialects.by_name("openai_responses" if "input" in body else "openai_chat").decode_request(body)
    profile = resolve(request.model, provider, base_url)
    snapshot = None if memory is None else memory.snapshot(now)
    made = decide(request, profile, WORDS, level=level, snapshot=snapshot, namespace=namespace)
    if memory is not None and made.sighting is not None:
        memory.observe(made.sighting, now)
    return made


def key(body: dict[str, Any], **settings: Any) -> Any:
    made = decided(body, **settings)
    assert made.plan.options.get("prompt_cache_key") in (None, made.request.options.get("prompt_cache_key"))
    return made.request.options.get("prompt_cache_key")


@pytest.mark.parametrize("level", ["mark", "canonical", "arrange"])
@pytest.mark.parametrize("model", ["gpt-5.6", "gpt-6-luna", "gpt-5.5", "gpt-4o-mini", "ft:gpt-4.1-mini:acme::7"])
def test_requests_to_openai_get_a_key_that_says_nothing_of_the_prompt(model: str, level: Level) -> None:
    assert re.fullmatch("prefixcache-[0-9a-f]{24}", key(chat(model=model), level=level))


@pytest.mark.parametrize(
    ("body", "settings"),
    [
        pytest.param(chat(model="gpt-99"), {}, id="a model without a row"),
        pytest.param(chat(model="gpt-4"), {}, id="a model without a cache"),
        pytest.param(chat(), {"provider": "azure"}, id="Azure"),
        pytest.param(
            chat(), {"base_url": "https://shop.openai.azure.com/openai/v1/"}, id="Azure behind OpenAI's client"
        ),
        pytest.param(chat(), {"base_url": "https://openrouter.ai/api/v1"}, id="a gateway"),
        pytest.param(chat(), {"base_url": "https://api.openai.com.example.org/v1"}, id="a host of another's"),
        pytest.param(chat(), {"base_url": "http://["}, id="no address"),
        pytest.param(chat(system=""), {}, id="nothing static"),
        pytest.param(chat(system="Be brief."), {}, id="too short to be cached"),
        pytest.param(responses(previous_response_id="resp_1"), {}, id="a prompt that the provider keeps"),
        pytest.param(responses(conversation={"id": "conv_1"}), {}, id="a conversation that the provider keeps"),
    ],
)
def test_others_get_none(body: dict[str, Any], settings: dict[str, Any]) -> None:
    assert key(body, **settings) is None


@pytest.mark.parametrize(
    "base_url",
    ["https://api.openai.com/v1/", "https://eu.api.openai.com/v1", "http://127.0.0.1:8080/v1", "http://[::1]/v1"],
)
def test_openais_own_hosts_and_this_machine_take_a_key(base_url: str) -> None:
    assert key(chat(), base_url=base_url) == key(chat())


def test_the_applications_own_key_stays() -> None:
    assert key(chat(prompt_cache_key="shop"), memory=PromptMemory()) == "shop"


def test_what_a_key_depends_on() -> None:
    base = key(chat())
    assert key(chat("Another question?")) == base
    assert key(chat(temperature=1)) == base
    others = [
        key(chat(system="Another " + STATIC)),
        key(chat(model="gpt-6-luna")),
        key(chat(tools=[tool("a")])),
        key(chat(), namespace="acme"),
        key(chat(), namespace="umbrella"),
    ]
    assert len({base, *others}) == 6


def test_tools_in_any_order_have_one_key() -> None:
    orders = ["abc", "cba", "bca"]
    assert len({key(chat(tools=[tool(name) for name in order])) for order in orders}) == 1


WORD = st.sampled_from(["a ", "the ", "parcel ", "é漢字 ", "leaves. "])
WORDS_OF_IT = st.lists(WORD, max_size=40).map("".join)


@settings(max_examples=60)
@given(st.lists(WORD, min_size=3, max_size=8), st.integers(150, 600), WORDS_OF_IT, WORDS_OF_IT, st.booleans())
def test_requests_that_can_share_a_cached_prefix_have_one_key(
    words: list[str], times: int, one: str, other: str, with_tools: bool
) -> None:
    head = "".join(words) * times
    tools: dict[str, Any] = {"tools": [tool("a"), tool("b")]} if with_tools else {}
    bodies = [chat(system=head + tail, model="gpt-4.1-mini", **tools) for tail in (one, other)]
    first, second = ([*_tokens(body)] for body in bodies)
    shared = next(
        (n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
    if shared >= resolve("gpt-4.1-mini").minimum_tokens:
        assert key(bodies[0]) == key(bodies[1]) is not None


def _tokens(body: dict[str, Any]) -> list[str]:
    request = dialects.by_name("openai_chat").decode_request(body)
    prompt = segments(request)
    fixed = [segment.fixed_tokens for segment in prompt]
    assert sum(token_counts(prompt, WORDS)) >= sum(fixed)
    return [
        word for segment in prompt for word in [str(segment.identity[:8])] * segment.fixed_tokens + segment.text.split()
    ]


def busy(
    memory: PromptMemory, conversations: int, minutes: int = 1, start: float = 0.0, first: int = 0
) -> Counter[str]:
    """Send a request of each conversation per minute, and return how many went which way in the last one."""
    went = Counter[str]()
    for minute in range(minutes):
        went.clear()
        for number in range(conversations):
            now = start + minute * 60 + number * 59 / conversations
            went[key(chat(f"Question {first + number}"), memory=memory, now=now)] += 1
    return went


def test_a_key_with_few_requests_is_not_spread() -> None:
    assert busy(PromptMemory(), 15, minutes=3) == {key(chat()): 15}


def test_a_busy_key_is_spread_so_that_each_route_gets_about_what_it_takes() -> None:
    memory = PromptMemory()
    busy(memory, 120)
    went = busy(memory, 120, start=60.0, first=1000)
    assert set(went) == {key(chat()), *(f"{key(chat())}-{way}" for way in range(1, 8))}
    assert max(went.values()) <= 2 * 15


def test_a_conversation_keeps_its_route_from_turn_to_turn() -> None:
    memory = PromptMemory()
    busy(memory, 120, minutes=2)
    turns = [chat("Question 7"), chat("Question 7"), chat("Question 7")]
    for number, body in enumerate(turns):
        body["messages"] += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "And?"}] * number
    routes = {key(body, memory=memory, now=130.0 + number) for number, body in enumerate(turns)}
    assert len(routes) == 1
    assert routes == {key(turns[2], memory=memory, now=1000.0)}, "a pause does not take it away"


def test_a_conversation_keeps_its_route_while_more_of_them_are_needed() -> None:
    memory = PromptMemory()
    went = [key(chat("Question 7"), memory=memory, now=float(minute)) for minute in range(2)]
    for minute in range(1, 5):
        busy(memory, 120, start=minute * 60.0, first=minute * 1000)
        went.append(key(chat("Question 7"), memory=memory, now=minute * 60.0 + 59.5))
    assert set(went) == {key(chat())}


def test_a_key_that_is_busy_no_longer_is_one_again() -> None:
    memory = PromptMemory()
    busy(memory, 120, minutes=2)
    assert key(chat("Question 7"), memory=memory, now=10_000.0) == key(chat())


@given(st.integers(0, 2**64 - 1), st.integers(1, 300))
def test_with_one_more_route_a_conversation_stays_or_goes_to_the_new_one(conversation: int, ways: int) -> None:
    before, after = _way(conversation, ways), _way(conversation, ways + 1)
    assert 0 <= before < ways
    assert after in (before, ways)


def test_conversations_are_spread_evenly() -> None:
    counts = Counter(_way(hash_ * 0x9E3779B97F4A7C15 % 2**64, 10) for hash_ in range(10_000))
    assert min(counts.values()) > 850
    assert max(counts.values()) < 1150


def test_spreading_is_the_same_in_every_process() -> None:
    memory = PromptMemory()
    busy(memory, 120, minutes=2, first=1000)
    ways = [key(chat(f"Question {number}"), memory=memory, now=121.0)[36:] for number in range(4)]
    assert ways == ["", "-6", "-5", "-2"]


def test_planning_a_planned_request_spreads_nothing_further() -> None:
    memory = PromptMemory()
    busy(memory, 120, minutes=2)
    made = decided(chat("Question 7"), memory=memory, now=121.0)
    again = decide(made.request, resolve("gpt-5.6"), WORDS, snapshot=memory.snapshot(121.0))
    assert again.request == made.request


def test_counting_is_bounded() -> None:
    routes = Routes()
    for number in range(KEYS * 2):
        routes.observe(Route(f"key {number}"), 0.0)
    for _ in range(40):
        routes.observe(Route("key 1"), 1.0)
    assert len(routes._counts) == KEYS
    assert routes.ways("key 1", 15, 2.0) == 3
    assert routes.ways("another", 15, 2.0) == 1
    for number in range(CONVERSATIONS + 5):
        routes.observe(Route("key 1", way=number % 3, conversation=number), 2.0)
    assert len(routes._taken) == CONVERSATIONS


@given(st.lists(st.floats(0, 7200), min_size=1, max_size=80).map(sorted))
def test_routes_are_as_many_as_the_busiest_recent_minute_needs(times: list[float]) -> None:
    routes = Routes()
    for earlier, now in pairwise([0.0, *times]):
        assert now >= earlier
        routes.observe(Route("k"), now)
    minutes = Counter(int(now // 60) for now in times)
    assert 1 <= routes.ways("k", 15, times[-1]) <= -(-max(minutes.values()) // 15)
