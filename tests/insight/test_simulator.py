"""The cache engine, without HTTP: one token per word, time as a number."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefixcache_integrations import dialects, profiles
from prefixcache_integrations.canonical import Request, Usage
from prefixcache_integrations.insight.simulator import CacheSettings, PromptCache, Ticket

CLAUDE = "claude-sonnet-4-6"  # minimum 1,024
MARK = {"type": "ephemeral"}
MARK_1H = {"type": "ephemeral", "ttl": "1h"}


class Words:
    """One token per word."""

    name = "words"
    exact = True

    def encode(self, text: str) -> list[int]:
        return [int.from_bytes(word.encode()[:7].ljust(7), "big") for word in text.split()]

    def count(self, text: str) -> int:
        return len(text.split())


def words(count: int, word: str = "w") -> str:
    return " ".join([word] * count)


class Bench:
    """A cache and whoever calls it."""

    def __init__(self, **options: object) -> None:
        self.cache = PromptCache(Words(), CacheSettings(**options))

    def begin(self, request: Request, provider: str, now: float, scope: str) -> Ticket:
        return self.cache.begin(request, profiles.resolve(request.model, provider), scope=scope, now=now)

    def claude(self, body: dict, now: float = 0, scope: str = "org", model: str = CLAUDE) -> Usage:
        request = dialects.by_name("anthropic_messages").decode_request({"model": model, "max_tokens": 9, **body})
        ticket = self.begin(request, "anthropic", now, scope)
        self.cache.started(ticket, now=now)
        return ticket.usage

    def chat(
        self, messages: list[dict], model: str = "gpt-4o-mini", now: float = 0, scope: str = "org", **body
    ) -> Usage:
        request = dialects.by_name("openai_chat").decode_request({"model": model, "messages": messages, **body})
        ticket = self.begin(request, "openai", now, scope)
        self.cache.started(ticket, now=now)
        return ticket.usage


@pytest.fixture
def bench() -> Bench:
    return Bench()


def text(count: int, word: str = "w", marker: dict | None = None) -> dict:
    block = {"type": "text", "text": words(count, word)}
    return {**block, "cache_control": marker} if marker else block


def user(*blocks: dict) -> dict:
    return {"role": "user", "content": list(blocks)}


def counted(usage: Usage) -> tuple[int, int, int]:
    return usage.cache_read_tokens, usage.cache_write_tokens, usage.uncached_tokens


# Claude


def test_claude_reads_what_an_earlier_request_wrote(bench):
    body = {"system": [text(2000, marker=MARK)], "messages": [user(text(5))]}
    assert counted(bench.claude(body)) == (0, 2000, 5)
    assert counted(bench.claude(body)) == (2000, 0, 5)


def test_claude_without_a_marker_neither_writes_nor_reads(bench):
    marked = {"system": [text(2000, marker=MARK)], "messages": [user(text(5))]}
    unmarked = {"system": [text(2000)], "messages": [user(text(5))]}
    bench.claude(marked)
    assert counted(bench.claude(unmarked)) == (0, 0, 2005)


def test_claude_finds_no_entry_behind_unmarked_stable_text(bench):
    bench.claude({"messages": [user(text(2000), text(5, "a", MARK))]})
    usage = bench.claude({"messages": [user(text(2000), text(5, "b", MARK))]})
    assert counted(usage) == (0, 2005, 0)


@pytest.mark.parametrize(("size", "written"), [(1023, 0), (1024, 1024)])
def test_claude_below_the_minimum_is_silent(bench, size, written):
    body = {"system": [text(size, marker=MARK)], "messages": [user(text(5))]}
    assert counted(bench.claude(body)) == (0, written, size + 5 - written)
    assert bench.claude(body).cache_read_tokens == written


def test_claude_bills_mixed_lifetimes_in_two_parts(bench):
    body = {
        "system": [text(1100, "a", MARK_1H), text(200, "b", MARK_1H), text(300, "c", MARK)],
        "messages": [user(text(7))],
    }
    usage = bench.claude(body)
    assert usage.cache_write_by_ttl == {"1h": 1300, "5m": 300}
    assert counted(usage) == (0, 1600, 7)


def test_claude_bills_only_what_lies_beyond_the_read_part(bench):
    bench.claude({"system": [text(1100, "a", MARK_1H)], "messages": [user(text(7))]})
    grown = {"system": [text(1100, "a", MARK_1H), text(200, "b", MARK_1H)], "messages": [user(text(300, "c", MARK))]}
    usage = bench.claude(grown)
    assert usage.cache_write_by_ttl == {"1h": 200, "5m": 300}
    assert counted(usage) == (1100, 500, 0)


@pytest.mark.parametrize(("between", "read"), [(18, 2000), (19, 2000), (20, 0)])
def test_claude_looks_back_twenty_positions_its_own_included(bench, between, read):
    bench.claude({"messages": [user(text(2000, marker=MARK))]})
    later = [text(1, f"x{number}") for number in range(between - 1)]
    usage = bench.claude({"messages": [user(text(2000), *later, text(1, "end", MARK))]})
    assert usage.cache_read_tokens == read


def tool_turn(number: int, calls: int, marker: dict | None = None) -> list[dict]:
    ids = [f"t{number}_{index}" for index in range(calls)]
    uses = [{"type": "tool_use", "id": name, "name": "f", "input": {}} for name in ids]
    results = [{"type": "tool_result", "tool_use_id": name, "content": "ok"} for name in ids]
    if marker:
        results[-1] = {**results[-1], "cache_control": marker}
    return [{"role": "assistant", "content": uses}, {"role": "user", "content": results}]


def test_a_run_of_tool_blocks_is_one_position_or_many_as_set():
    for setting, read in [(None, 2000), (True, 2000), (False, 0)]:
        bench = Bench(tool_runs_are_one_position=setting)
        bench.claude({"messages": [user(text(2000, marker=MARK))]})
        usage = bench.claude({"messages": [user(text(2000)), *tool_turn(1, 25, MARK)]})
        assert usage.cache_read_tokens == read, setting


def test_an_earlier_marker_searches_on_where_the_last_one_found_nothing(bench):
    bench.claude({"messages": [user(text(2000, marker=MARK))]})
    filler = [text(1, f"x{number}") for number in range(30)]
    usage = bench.claude({"messages": [user(text(2000, marker=MARK), *filler, text(1, "end", MARK))]})
    assert counted(usage) == (2000, 31, 0)


def test_the_automatic_marker_moves_with_the_last_block_that_may_carry_it(bench):
    first = {"cache_control": MARK, "messages": [user(text(2000))]}
    assert counted(bench.claude(first)) == (0, 2000, 0)
    answered = [user(text(2000)), {"role": "assistant", "content": "yes"}, user(text(3, "more"))]
    assert counted(bench.claude({"cache_control": MARK, "messages": answered})) == (2000, 4, 0)
    thinking = {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}]}
    usage = bench.claude({"cache_control": MARK, "messages": [user(text(2000)), thinking]})
    assert counted(usage) == (2000, 0, 1)


def test_a_marker_on_the_last_nested_block_counts_for_the_outer_one(bench):
    def with_result(inner: dict, outer: dict) -> dict:
        call, answer = tool_turn(1, 1)
        result = {**answer["content"][0], "content": [{"type": "text", "text": words(2000), **inner}], **outer}
        return {"messages": [user(text(1)), call, user(result)]}

    bench.claude(with_result({"cache_control": MARK}, {}))
    assert bench.claude(with_result({}, {"cache_control": MARK})).cache_write_tokens == 0


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ({"tool_choice": {"type": "any"}}, 1500),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, 1500),
        ({"temperature": 0.3}, 2500),
        ({"speed": "fast"}, 0),
    ],
)
def test_a_setting_loses_the_cache_from_its_tier_on(bench, change, read):
    body = {"system": [text(1500, marker=MARK)], "messages": [user(text(1000, "u", MARK))]}
    bench.claude(body)
    assert bench.claude({**body, **change}).cache_read_tokens == read


@pytest.mark.parametrize(("marker", "seconds"), [(MARK, 300), (MARK_1H, 3600)])
def test_a_lifetime_counts_from_the_last_request_that_used_the_entry(bench, marker, seconds):
    body = {"system": [text(2000, marker=marker)], "messages": [user(text(5))]}
    bench.claude(body, now=0)
    assert bench.claude(body, now=seconds - 1).cache_read_tokens == 2000
    assert bench.claude(body, now=2 * seconds - 2).cache_read_tokens == 2000
    assert bench.claude(body, now=3 * seconds - 2).cache_read_tokens == 0


@pytest.mark.parametrize(("refresh", "read"), [(False, 0), (True, 1500)])
def test_a_read_refreshes_the_shorter_entries_only_where_set(refresh, read):
    bench = Bench(refresh_shorter=refresh)
    body = {"system": [text(1500, marker=MARK)], "messages": [user(text(500, "u", MARK))]}
    bench.claude(body, now=0)
    bench.claude(body, now=200)
    other = {"system": [text(1500, marker=MARK)], "messages": [user(text(500, "v", MARK))]}
    assert bench.claude(other, now=400).cache_read_tokens == read


def test_an_entry_is_readable_once_the_writer_has_begun_and_lives_from_its_start(bench):
    body = {"model": CLAUDE, "max_tokens": 9, "system": [text(2000, marker=MARK)], "messages": [user(text(5))]}
    request = dialects.by_name("anthropic_messages").decode_request(body)
    first = bench.begin(request, "anthropic", 0, "org")
    second = bench.begin(request, "anthropic", 10, "org")
    assert first.usage.cache_write_tokens == second.usage.cache_write_tokens == 2000
    bench.cache.started(first, now=100)
    assert bench.begin(request, "anthropic", 299, "org").usage.cache_read_tokens == 2000
    assert bench.begin(request, "anthropic", 300, "org").usage.cache_read_tokens == 0


@pytest.mark.parametrize("other", [{"scope": "another"}, {"model": "claude-sonnet-4-5"}])
def test_entries_are_shared_within_one_scope_and_model(bench, other):
    body = {"system": [text(2000, marker=MARK)], "messages": [user(text(5))]}
    bench.claude(body)
    assert bench.claude(body, **other).cache_read_tokens == 0


# OpenAI, entries at intervals


def say(content: object, role: str = "user") -> dict:
    return {"role": role, "content": content}


def test_intervals_read_the_longest_multiple_that_is_shared(bench):
    shared = words(1400)
    bench.chat([say(shared + " a b c")])
    # 4 tokens of framing, 1,400 shared words: 1,404, of which 10 whole intervals of 128 and 8 to the minimum
    assert bench.chat([say(shared + " x y z")]).cache_read_tokens == 1280
    assert bench.chat([say(shared + " x y z")]).cache_write_tokens is None


def test_intervals_below_the_minimum_are_never_cached(bench):
    for size in (900, 1016):
        bench.chat([say(words(size))])
        assert bench.chat([say(words(size))]).cache_read_tokens == 0
    bench.chat([say(words(1017))])
    assert bench.chat([say(words(1017))]).cache_read_tokens == 1024


@pytest.mark.parametrize(
    "change",
    [
        {"scope": "another"},
        {"model": "gpt-4o"},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}},
        {"messages": [say("z " + words(1999))]},
    ],
)
def test_intervals_read_nothing_after_a_change_at_the_start(bench, change):
    call = {"messages": [say(words(2000))]}
    bench.chat(**call)
    assert bench.chat(**call).cache_read_tokens == 1920
    assert bench.chat(**{**call, **change}).cache_read_tokens == 0


def test_a_routing_key_does_not_partition_the_intervals(bench):
    bench.chat([say(words(2000))], prompt_cache_key="a")
    assert bench.chat([say(words(2000))], prompt_cache_key="b").cache_read_tokens == 1920


def test_a_model_without_a_cache_reads_nothing(bench):
    for _ in range(2):
        usage = bench.chat([say(words(2000))], model="gpt-4o-2024-05-13")
    assert (usage.input_tokens, usage.cache_read_tokens) == (2007, 0)


@settings(max_examples=60)
@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=12), share=st.integers(0, 12))
def test_intervals_read_exactly_the_shared_part_rounded_down(sizes, share):
    """Law: what is read is the common prefix, in whole increments, if it reaches the minimum."""
    bench = Bench()
    before = [f"a{size}" for size in sizes for _ in range(size)]
    kept = sum(sizes[:share])
    after = before[:kept] + [f"b{number}" for number in range(500)]
    bench.chat([say(" ".join(before))])
    shared = 4 + kept
    expected = shared // 128 * 128 if shared >= 1024 else 0
    assert bench.chat([say(" ".join(after))]).cache_read_tokens == expected


# OpenAI, entries at breakpoints

NEW = "gpt-5.6-luna"
POINT = {"mode": "explicit"}


def part(count: int, word: str = "w", point: dict | None = None) -> dict:
    block = {"type": "text", "text": words(count, word)}
    return {**block, "prompt_cache_breakpoint": point} if point else block


def test_implicit_mode_writes_the_end_of_the_latest_user_message(bench):
    first = [say(words(1500), "developer"), say(words(500, "q"))]
    assert counted(bench.chat(first, NEW)) == (0, 2008, 3)
    follow_up = [*first, say("fine", "assistant"), say("more")]
    assert counted(bench.chat(follow_up, NEW)) == (2008, 10, 3)


def test_implicit_mode_alone_shares_nothing_between_users(bench):
    for word in "ab":
        usage = bench.chat([say(words(1500), "developer"), say(words(500, word))], NEW)
        assert usage.cache_read_tokens == 0


def test_an_explicit_breakpoint_after_the_static_part_is_shared_between_users(bench):
    for word, read in [("a", 0), ("b", 1504)]:
        usage = bench.chat([say([part(1500, point=POINT)], "developer"), say(words(500, word))], NEW)
        assert usage.cache_read_tokens == read


def test_extending_a_message_loses_it(bench):
    bench.chat([say(words(2000))], NEW)
    assert bench.chat([say(words(2001))], NEW).cache_read_tokens == 0


def test_explicit_mode_without_breakpoints_turns_the_cache_off(bench):
    bench.chat([say(words(2000))], NEW)
    usage = bench.chat([say(words(2000))], NEW, prompt_cache_options={"mode": "explicit"})
    assert counted(usage) == (0, 0, 2007)


def test_explicit_mode_sees_an_implicit_entry_only_at_a_breakpoint(bench):
    bench.chat([say(words(2000))], NEW)
    explicit = {"prompt_cache_options": {"mode": "explicit"}}
    other = [say(words(2000)), say("yes", "assistant"), say([part(5, point=POINT)])]
    assert bench.chat(other, NEW, **explicit).cache_read_tokens == 0
    at_it = [say([part(2000, point=POINT)]), say("yes", "assistant"), say("more")]
    assert bench.chat(at_it, NEW, **explicit).cache_read_tokens == 2004


@pytest.mark.parametrize("number", range(5))
def test_only_the_latest_three_explicit_breakpoints_are_written_beside_the_implicit_one(bench, number):
    marked = [part(1100, f"p{index}", POINT) for index in range(5)]
    bench.chat([say(marked), say("end")], NEW)
    usage = bench.chat([say(marked[: number + 1]), say("other")], NEW)
    assert usage.cache_read_tokens == (4 + 1100 * (number + 1) if number >= 2 else 0)


def test_a_prompt_cache_key_partitions_the_breakpoints(bench):
    bench.chat([say(words(2000))], NEW, prompt_cache_key="a")
    assert bench.chat([say(words(2000))], NEW, prompt_cache_key="b").cache_read_tokens == 0
    assert bench.chat([say(words(2000))], NEW, prompt_cache_key="a").cache_read_tokens == 2004


def test_breakpoints_below_the_minimum_are_not_written(bench):
    assert counted(bench.chat([say(words(1019))], NEW)) == (0, 0, 1026)
    assert counted(bench.chat([say(words(1020))], NEW)) == (0, 1024, 3)


def test_only_the_last_tool_answer_of_a_run_ends_a_message(bench):
    calls = [{"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in range(2)]
    answers = [{"role": "tool", "tool_call_id": f"c{n}", "content": f"answer{n}"} for n in range(2)]
    head = [say(words(2000)), {"role": "assistant", "content": None, "tool_calls": calls}]
    usage = bench.chat([*head, *answers], NEW)
    assert usage.uncached_tokens == 3
    split = [*head, answers[0], {**answers[1], "content": "other"}]
    assert bench.chat(split, NEW).cache_read_tokens == 0  # neither the user message nor the first answer was written


def test_a_lifetime_at_breakpoints_is_refreshed_by_reuse(bench):
    for now, read in [(0, 0), (1799, 2004), (3598, 2004), (5398, 0)]:
        assert bench.chat([say(words(2000))], NEW, now=now).cache_read_tokens == read


# Memory


def test_memory_is_bounded_and_keeps_what_expires_last():
    bench = Bench(max_entries=100)
    for number in range(300):
        bench.claude({"system": [text(1100, f"s{number}", MARK)], "messages": [user(text(1))]}, now=number / 10)
        assert len(bench.cache) <= 100
    newest = {"system": [text(1100, "s299", MARK)], "messages": [user(text(1))]}
    assert bench.claude(newest, now=31).cache_read_tokens == 1100


@settings(max_examples=40)
@given(turns=st.lists(st.integers(0, 25), min_size=2, max_size=12), runs=st.booleans())
def test_a_growing_claude_conversation_reads_all_it_has_written(turns, runs):
    """Law: with the tail marked and every turn within the lookback, read(n+1) = read(n) + write(n)."""
    bench = Bench(tool_runs_are_one_position=runs)
    messages = [user(text(2000))]
    reachable = 0
    for number, calls in enumerate(turns):
        marked = [*messages[:-1], _with_marker(messages[-1])]
        usage = bench.claude({"messages": marked})
        assert usage.cache_read_tokens == reachable
        reachable = usage.cache_read_tokens + usage.cache_write_tokens
        within = calls if runs else min(calls, 9)  # nine calls and their answers: the entry before is position 19
        messages = [*messages, *tool_turn(number, within)] if within else [*messages, _said(), user(text(3))]


def _said() -> dict:
    return {"role": "assistant", "content": "yes"}


def _with_marker(message: dict) -> dict:
    *rest, last = message["content"]
    return {**message, "content": [*rest, {**last, "cache_control": MARK}]}
