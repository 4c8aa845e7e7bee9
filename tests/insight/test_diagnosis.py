"""What an explanation says, shows and hides; sizes, prices and bills by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import get_args

import pytest
from msgspec.structs import replace

from prefixcache_integrations import dialects, profiles
from prefixcache_integrations.canonical import Request, Usage
from prefixcache_integrations.errors import MalformedRequest
from prefixcache_integrations.events import BreakReason, PrefixBroken
from prefixcache_integrations.insight.diagnosis import Explanation, explain, remedy
from prefixcache_integrations.insight.diagnosis_differences import difference
from prefixcache_integrations.profiles import Price

CLAUDE, MINI = "claude-sonnet-4-6", "gpt-4o-mini"
MARK = {"type": "ephemeral"}
PRICE = Price.dollars("3", "15", "0.1")


class Words:
    name = "words"
    exact = True

    def encode(self, text: str) -> list[int]:
        return [int.from_bytes(word.encode()[:7].ljust(7), "big") for word in text.split()]

    def count(self, text: str) -> int:
        return len(text.split())


class Estimate(Words):
    exact = False


def words(count: int, word: str = "w") -> str:
    return " ".join([word] * count)


def text(content: str, *, marked: bool = False) -> dict:
    return {"type": "text", "text": content, **({"cache_control": MARK} if marked else {})}


def claude(*messages: dict, **fields: object) -> Request:
    body = {"model": CLAUDE, "max_tokens": 9, "messages": list(messages), **fields}
    return dialects.by_name("anthropic_messages").decode_request(body)


def chat(*messages: dict, model: str = MINI, **fields: object) -> Request:
    body = {"model": model, "messages": list(messages), **fields}
    return dialects.by_name("openai_chat").decode_request(body)


def responses(*items: dict, **fields: object) -> Request:
    body = {"model": MINI, "input": list(items), **fields}
    return dialects.by_name("openai_responses").decode_request(body)


def why(previous: Request, current: Request, **told: object) -> Explanation:
    told = {"profile": profiles.resolve(current.model), "tokenizer": Words(), **told}
    return explain(previous, current, **told)


def user(content: object) -> dict:
    return {"role": "user", "content": content}


def assistant(content: object) -> dict:
    return {"role": "assistant", "content": content}


FIRST = claude(user([text(words(2000), marked=True)]))
REWRITTEN = claude(user([text(words(1999) + " x")]), assistant("fine"), user([text("more", marked=True)]))


def test_an_extension_loses_nothing_and_has_no_reason() -> None:
    said = why(FIRST, claude(user(words(2000)), assistant("fine"), user([text("more", marked=True)])))
    assert said == Explanation(available_tokens=2000, readable_tokens=2000)
    assert not said.broken
    assert said.event(CLAUDE) is None
    assert said.render() == "nothing lost: 2,000 tokens can be read from the cache"


def test_a_rewritten_history_is_told_with_its_place_its_tokens_and_a_remedy() -> None:
    said = why(FIRST, REWRITTEN)
    assert said.reason == "history_rewritten"
    assert (said.divergence.path, said.divergence.offset) == ("messages[0].content[0].text", 2 * 1999)
    assert said.lost_tokens == 2000
    assert said.render().splitlines() == [
        "history rewritten at messages[0].content[0].text, character 3998",
        "  lost: 2,000 of 2,000 cached tokens",
        "  append to the history; edit or summarise a message before it is first sent",
    ]


def test_the_event_carries_the_facts() -> None:
    event = why(FIRST, REWRITTEN, price=PRICE).event(CLAUDE)
    assert isinstance(event, PrefixBroken)
    assert (event.model, event.reason, event.lost_tokens) == (CLAUDE, "history_rewritten", 2000)
    assert (event.path, event.offset) == ("messages[0].content[0].text", 3998)
    assert event.lost_cost == Decimal("0.0069")  # 2,000 written at 1.25 instead of read at 0.1, $3 a million
    assert event.remedy == remedy("history_rewritten")


def test_the_prompt_is_shown_only_on_request() -> None:
    secret = claude(user([text("canary-one " + words(2000), marked=True)]))
    other = claude(user([text("canary-two " + words(2000), marked=True)]))
    said = why(secret, other)
    assert "canary" not in repr(said) + said.render() + repr(said.event(CLAUDE))
    shown = why(secret, other, redact=False)
    assert shown.divergence.excerpt.before.startswith("canary-one")
    assert "canary-two" in shown.render()
    assert len(shown.divergence.excerpt.after) <= 48
    assert "canary" not in repr(shown.event(CLAUDE))


def test_no_price_is_no_cost() -> None:
    assert why(FIRST, REWRITTEN).lost_cost is None


def test_what_is_not_sent_again_costs_nothing() -> None:
    short = claude(user([text("another question", marked=True)]))
    said = why(FIRST, short, price=PRICE)
    assert said.lost_tokens == 2000
    assert said.lost_cost == Decimal("0.0000054")  # two tokens, below the minimum: plain instead of read


def test_a_tier_of_the_whole_request_raises_the_loss() -> None:
    haiku, price = profiles.resolve("claude-haiku-5-5"), profiles.resolve("claude-haiku-5-5").prices[0]
    sent = [claude(user([text(words(120_000, word), marked=True)]), model="claude-haiku-5-5") for word in ("a", "b")]
    said = why(*sent, profile=haiku, price=price)
    assert said.lost_cost == Decimal("0.069")  # 120,000 x (1.25 - 0.1) x $0.1 a million x 5


@pytest.mark.parametrize(("model", "total", "short_by"), [(MINI, 926, 98), ("gpt-5.5", 1079, 969), (MINI, 1023, 1)])
def test_how_many_tokens_are_missing_is_said(model: str, total: int, short_by: int) -> None:
    request = chat(user(words(total - 7)), model=model)
    said = why(request, request)
    assert (said.reason, said.shortfall_tokens, said.lost_tokens) == ("below_minimum", short_by, 0)
    assert f"{short_by:,} tokens short" in said.render()


def test_a_model_without_a_cache_has_nothing_to_lose() -> None:
    request = chat(user(words(5000)), model="gpt-4o-2024-05-13")
    assert why(request, request) == Explanation()


def test_an_unmarked_claude_conversation_could_have_been_read() -> None:
    plain = claude(user(words(2000)))
    said = why(plain, claude(user(words(2000)), assistant("fine"), user("more")))
    assert (said.reason, said.lost_tokens) == ("marker_missing", 2000)


def test_a_layout_that_marks_the_system_prompt_alone_is_left_alone() -> None:
    system = [text(words(1500), marked=True)]
    asked = claude(user(words(3000)), system=system)
    assert why(asked, claude(user(words(10, "other")), system=system)).lost_tokens == 0


def test_the_form_of_a_string_and_moved_markers_are_no_difference() -> None:
    previous = claude(user([text(words(2000), marked=True)]))
    current = claude(user(words(2000)), assistant("fine"), user([text("more", marked=True)]))
    assert why(previous, current).divergence is None


def test_the_order_of_keys_in_a_call_is_a_difference() -> None:
    def turn(given: dict) -> list[dict]:
        call = {"type": "tool_use", "id": "t1", "name": "find", "input": given}
        result = {"type": "tool_result", "tool_use_id": "t1", "content": "found"}
        return [user([text(words(2000))]), assistant([call]), user([{**result, "cache_control": MARK}])]

    said = why(claude(*turn({"a": "1", "b": "2"})), claude(*turn({"b": "2", "a": "1"})))
    assert (said.reason, said.divergence.path) == ("history_rewritten", "messages[1].content[0].input")
    assert said.divergence.offset == 2  # {"a… against {"b…


def test_documents_in_one_text_in_another_order_are_told_as_such() -> None:
    documents = ["doc a\nabout ferries", "doc b\nabout cranes"]
    sent = [
        claude(user([text("\n".join([*order, words(2000)]), marked=True)])) for order in (documents, documents[::-1])
    ]
    assert why(*sent).reason == "document_order_changed"


def test_other_documents_are_told_from_a_rewritten_history() -> None:
    def sent(content: str) -> Request:
        source = {"type": "text", "media_type": "text/plain", "data": content}
        return claude(user([{"type": "document", "source": source}, text(words(2000), marked=True)]))

    said = why(sent("one"), sent("two"))
    assert (said.reason, said.divergence.path) == ("documents_changed", "messages[0].content[0].source.data")


def test_a_summary_in_the_place_of_dropped_messages_is_a_truncation() -> None:
    turns = [user(words(2000)), assistant("one"), user("two"), assistant("three"), user([text("four", marked=True)])]
    summarised = [user("a summary"), *turns[3:], assistant("five"), user([text("six", marked=True)])]
    assert why(claude(*turns), claude(*summarised)).reason == "history_truncated"


TURNS = [user(words(2000)), assistant("one"), user("two"), assistant("three"), user("four")]
NEXT = [assistant("five"), user([text("six", marked=True)])]
SUMMARY = [user("what was said?"), assistant("a summary")]


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        (NEXT[1:], "history_truncated"),
        ([*SUMMARY, *NEXT[1:]], "history_truncated"),
        ([*SUMMARY, *TURNS[3:], *NEXT], "history_truncated"),
        ([*SUMMARY, *TURNS[2:], *NEXT], "history_rewritten"),  # two in the place of two
        ([*TURNS[:4], user("another"), *NEXT], "history_rewritten"),
        ([*TURNS[:4], user([text("another", marked=True)])], "history_rewritten"),
    ],
)
def test_what_is_left_of_a_history_tells_whether_it_was_cut(kept: list[dict], reason: str) -> None:
    marked = [*TURNS[:4], user([text("four", marked=True)])]
    assert why(claude(*marked), claude(*kept)).reason == reason


def test_the_first_image_of_a_claude_conversation_loses_its_messages() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    current = claude(user(words(2000)), assistant("fine"), user([image, text("see", marked=True)]))
    said = why(FIRST, current)
    assert (said.reason, said.divergence.path, said.lost_tokens) == ("images_changed", "messages[2].content[0]", 2000)


def test_a_nested_image_that_changed_is_an_image() -> None:
    def sent(data: str) -> Request:
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
        result = {"type": "tool_result", "tool_use_id": "t", "content": [text("shot"), image]}
        return claude(user([result, text(words(2000), marked=True)]))

    said = why(sent("AAAA"), sent("AABA"))
    assert (said.reason, said.divergence.offset) == ("images_changed", 2)
    assert said.divergence.path == "messages[0].content[0].content[1].source.data"


def test_an_unknown_setting_that_the_prefix_depends_on() -> None:
    said = why(chat(user(words(2000))), chat(user(words(2000)), parallel_tool_calls=False))
    assert (said.reason, said.divergence.path) == ("settings_changed", "parallel_tool_calls")


def test_a_default_spelled_out_is_no_difference() -> None:
    said = why(chat(user(words(2000))), chat(user(words(2000)), parallel_tool_calls=True))
    assert said.reason is None


def test_the_model_of_the_earlier_request_has_its_own_facts() -> None:
    earlier = claude(user([text(words(2000), marked=True)]))
    said = why(earlier, claude(user([text(words(2000), marked=True)]), model="claude-haiku-4-5"))
    assert (said.reason, said.lost_tokens) == ("model_changed", 2000)


@pytest.mark.parametrize(
    ("items", "changed", "path", "offset"),
    [
        ([user(words(2000))], [user(words(1999) + " x")], "input[0].content", 3998),
        (
            [user(words(2000)), {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a": 1}'}],
            [user(words(2000)), {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a": 2}'}],
            "input[1].arguments",
            6,
        ),
        (
            [user(words(2000)), {"type": "function_call_output", "call_id": "c", "output": "yes"}, user(words(200))],
            [user(words(2000)), {"type": "function_call_output", "call_id": "c", "output": "yea"}, user(words(200))],
            "input[1].output",
            2,
        ),
    ],
)
def test_paths_of_responses_are_those_of_its_items(
    items: list[dict], changed: list[dict], path: str, offset: int
) -> None:
    said = why(responses(*items), responses(*changed))
    assert (said.reason, said.divergence.path, said.divergence.offset) == ("history_rewritten", path, offset)


def test_instructions_are_the_system_prompt() -> None:
    sent = [responses(user("hi"), instructions=words(2000) + end) for end in (" a", " b")]
    said = why(*sent)
    assert (said.reason, said.divergence.path) == ("system_changed", "instructions")


EXTENDED = claude(user(words(2000)), assistant("fine"), user([text("more", marked=True)]))


@pytest.mark.parametrize(
    ("read", "total", "reason", "lost"),
    [
        (2000, 2002, None, 0),
        (1999, 2002, "dropped_by_provider", 1),
        (0, 2002, "dropped_by_provider", 2000),
        (2400, 2402, None, 0),  # the provider counts a fifth more than we do
        (2320, 2402, None, 0),  # within the slack of another count
        (0, 2402, "dropped_by_provider", 2399),
    ],
)
def test_the_bill_decides_whether_the_provider_dropped_it(read: int, total: int, reason: str | None, lost: int) -> None:
    said = why(FIRST, EXTENDED, usage=Usage(input_tokens=total, cache_read_tokens=read))
    assert (said.reason, said.lost_tokens) == (reason, lost)


def test_a_bill_without_reads_says_nothing() -> None:
    assert why(FIRST, EXTENDED, usage=Usage(input_tokens=2002)) == why(FIRST, EXTENDED)


def test_an_expiry_that_did_not_come_is_taken_back() -> None:
    assert why(FIRST, EXTENDED, elapsed=301.0).reason == "ttl_expired"
    billed = Usage(input_tokens=2002, cache_read_tokens=2000)
    assert why(FIRST, EXTENDED, elapsed=301.0, usage=billed).reason is None


def test_a_longer_lifetime_is_kept_to() -> None:
    hour = {"type": "ephemeral", "ttl": "1h"}
    first = claude(user([{"type": "text", "text": words(2000), "cache_control": hour}]))
    assert why(first, EXTENDED, elapsed=3599.0).reason is None
    assert why(first, EXTENDED, elapsed=3600.0).reason == "ttl_expired"


def test_an_entry_that_may_be_kept_for_longer_has_expired_only_by_the_bill() -> None:
    first, second = chat(user(words(2000)), model="gpt-5.1"), chat(user(words(2000)), assistant("x"), model="gpt-5.1")
    said = why(first, second, elapsed=1801.0)
    assert (said.reason, said.likely, said.event("gpt-5.1")) == ("ttl_expired", True, None)
    assert "likely, not certain" in said.render()

    billed = why(first, second, elapsed=1801.0, usage=Usage(input_tokens=2011, cache_read_tokens=0))
    assert (billed.reason, billed.likely) == ("ttl_expired", False)
    assert billed.event("gpt-5.1").lost_tokens > 1_000
    assert not why(first, second, elapsed=86_400.0).likely
    assert not why(FIRST, EXTENDED, elapsed=301.0).likely


def test_estimates_are_labelled() -> None:
    said = why(FIRST, REWRITTEN, tokenizer=Estimate())
    assert not said.exact
    assert "about 2,000" in said.render()


def test_every_reason_has_a_remedy() -> None:
    assert all(remedy(reason) for reason in get_args(BreakReason))


def test_text_that_is_no_unicode_is_refused() -> None:
    broken = replace(FIRST.messages[0].parts[0], text="\ud800", raw={"type": "text", "text": "\ud800"})
    request = replace(FIRST, messages=(replace(FIRST.messages[0], parts=(broken,)),))
    with pytest.raises(MalformedRequest):
        why(FIRST, request)


@pytest.mark.parametrize(
    ("old", "new", "path", "offset"),
    [
        ({"a": "xy"}, {"a": "xz"}, "a", 1),
        ({"a": [1, "xy"]}, {"a": [1, "xyz"]}, "a[1]", 2),
        ({"a": [1]}, {"a": [1, 2]}, "a[1]", 0),
        ({"a": 1, "b": 2}, {"a": 1}, "", 6),
        ({"a": 12}, {"a": 13}, "a", 1),
        ({"a": None}, {"a": {}}, "a", 0),
    ],
)
def test_the_first_difference_is_as_deep_as_both_sides_go(old: object, new: object, path: str, offset: int) -> None:
    found = difference(old, new)
    assert found is not None
    assert (found.path, found.offset) == (path, offset)


def test_equal_values_have_no_difference() -> None:
    assert difference({"a": [1, {"b": "c"}]}, {"a": [1, {"b": "c"}]}) is None
