"""What counts under each policy, in the three wire formats."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.dialects.openai_responses import OpenAIResponses
from prefixcache_integrations.errors import ConfigurationError, MalformedRequest
from prefixcache_integrations.prompt.keys import STRICT, KeyPolicy, raw_key, response_key

LOOSE = KeyPolicy.loose(0.1)
DIALECTS = {"claude": AnthropicMessages(), "chat": OpenAIChat(), "responses": OpenAIResponses()}
NAMES = ["get_order", "cancel", "refund"]


def key(dialect, body, policy=STRICT, **settings):
    return response_key(DIALECTS[dialect].decode_request(body), policy=policy, **settings)


def claude(*, calls=(0, 1), results=None, tools=(0, 1, 2), **options):
    """A request in Claude's format with parallel calls; the numbers say in which order."""
    made = [{"type": "tool_use", "id": f"toolu_{n}", "name": NAMES[n], "input": {"order": n}} for n in calls]
    given = [{"type": "tool_result", "tool_use_id": f"toolu_{n}", "content": f"done {n}"} for n in results or calls]
    return {
        "model": "claude-sonnet-4-5",
        "max_tokens": 100,
        "tools": [{"name": NAMES[n], "input_schema": {"type": "object"}} for n in tools],
        "messages": [
            {"role": "user", "content": "Both, please."},
            {"role": "assistant", "content": [{"type": "text", "text": "Sure."}, *made]},
            {"role": "user", "content": [*given, {"type": "text", "text": "And?"}]},
        ],
        **options,
    }


def chat(*, calls=(0, 1), results=None, tools=(0, 1, 2), **options):
    def call(n):
        return {
            "id": f"call_{n}",
            "type": "function",
            "function": {"name": NAMES[n], "arguments": json.dumps({"order": n})},
        }

    return {
        "model": "gpt-4o-mini",
        "tools": [{"type": "function", "function": {"name": NAMES[n], "parameters": {}}} for n in tools],
        "messages": [
            {"role": "user", "content": "Both, please."},
            {"role": "assistant", "content": "Sure.", "tool_calls": [call(n) for n in calls]},
            *({"role": "tool", "tool_call_id": f"call_{n}", "content": f"done {n}"} for n in results or calls),
            {"role": "user", "content": "And?"},
        ],
        **options,
    }


def responses(*, calls=(0, 1), results=None, tools=(0, 1, 2), **options):
    def call(n):
        arguments = json.dumps({"order": n})
        return {
            "type": "function_call",
            "id": f"fc_{n}",
            "call_id": f"call_{n}",
            "name": NAMES[n],
            "arguments": arguments,
        }

    given = ({"type": "function_call_output", "call_id": f"call_{n}", "output": f"done {n}"} for n in results or calls)
    return {
        "model": "gpt-5.5",
        "tools": [{"type": "function", "name": NAMES[n], "parameters": {}} for n in tools],
        "input": [
            {"role": "user", "content": "Both, please."},
            *map(call, calls),
            *given,
            {"role": "user", "content": "And?"},
        ],
        **options,
    }


FORMATS = pytest.mark.parametrize(
    ("dialect", "body"),
    [("claude", claude), ("chat", chat), ("responses", responses)],
    ids=["claude", "chat", "responses"],
)

ORDERS = {
    "tools": ({"tools": (2, 0, 1)}, {}),
    "calls": ({"calls": (1, 0)}, {}),
    "results": ({"results": (1, 0)}, {}),
    "three calls": ({"calls": (2, 0, 1), "results": (1, 2, 0)}, {"calls": (0, 1, 2)}),
}


@FORMATS
@pytest.mark.parametrize(("one", "other"), ORDERS.values(), ids=ORDERS.keys())
def test_order_of_tools_and_of_parallel_calls_counts_only_where_policy_is_strict(dialect, body, one, other):
    assert key(dialect, body(**one)) != key(dialect, body(**other))
    assert key(dialect, body(**one), LOOSE) == key(dialect, body(**other), LOOSE)


@FORMATS
def test_a_result_stays_with_its_call_in_any_order(dialect, body):
    crossed = body()
    text = json.dumps(crossed).replace("done 0", "x").replace("done 1", "done 0").replace("x", "done 1")
    assert key(dialect, json.loads(text), LOOSE) != key(dialect, crossed, LOOSE)


@FORMATS
def test_calls_made_one_after_the_other_are_not_parallel(dialect, body):
    field = "input" if dialect == "responses" else "messages"

    def two_rounds(first, second):
        return {**body(), field: body(calls=(first,))[field] + body(calls=(second,))[field]}

    assert key(dialect, two_rounds(0, 1), LOOSE) != key(dialect, two_rounds(1, 0), LOOSE)


@pytest.mark.parametrize("policy", [STRICT, LOOSE], ids=["strict", "loose"])
@pytest.mark.parametrize(
    ("dialect", "parts"),
    [
        ("claude", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        ("chat", [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "https://x/p.png"}}]),
        ("responses", [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "https://x/p.png"}]),
    ],
)
def test_order_of_parts_and_messages_always_counts(dialect, parts, policy):
    def body(*contents):
        messages = [{"role": "user", "content": content} for content in contents]
        named = {"model": "m", "max_tokens": 1} if dialect == "claude" else {"model": "m"}
        return {**named, "input" if dialect == "responses" else "messages": messages}

    assert key(dialect, body(parts), policy) != key(dialect, body(parts[::-1]), policy)
    assert key(dialect, body("a", "b"), policy) != key(dialect, body("b", "a"), policy)


@FORMATS
@pytest.mark.parametrize("name", ["temperature", "top_p"])
def test_temperature_and_top_p_are_rounded_to_the_nearest_multiple(dialect, body, name):
    def at(value, policy=LOOSE):
        return key(dialect, body(**{name: value}), policy)

    assert at(0.7) == at(0.72) == at(0.66)
    assert at(0.7) != at(0.8)
    assert at(0.74) != at(0.76), "neighbours across the edge of a bucket are told apart"
    assert at(0.7, STRICT) != at(0.72, STRICT)
    assert at(0.7, KeyPolicy.loose(0.5)) == at(0.5, KeyPolicy.loose(0.5))
    assert at(0) == at(0.0)
    assert at(0.02) != key(dialect, body(), LOOSE), "left out is not zero"


def test_a_tolerance_rounds_nothing_else():
    assert key("chat", chat(frequency_penalty=0.7), LOOSE) != key("chat", chat(frequency_penalty=0.72), LOOSE)
    assert key("chat", chat(seed=1), LOOSE) != key("chat", chat(seed=2), LOOSE)


def test_policies_share_no_answer():
    policies = [STRICT, KeyPolicy(exact=True), KeyPolicy(ordered=False), LOOSE, KeyPolicy.loose(0.2)]
    assert len({key("chat", chat(temperature=0.4), policy) for policy in policies}) == len(policies)


@pytest.mark.parametrize("tolerance", [-0.1, 1.5, float("nan")])
def test_a_tolerance_that_makes_no_sense_is_refused(tolerance):
    with pytest.raises(ConfigurationError):
        KeyPolicy(tolerance=tolerance)


@given(st.permutations([0, 1, 2]), st.permutations([0, 1, 2]), st.permutations([0, 1, 2]))
def test_no_order_counts_where_policy_is_loose(calls, results, tools):
    for dialect, body in (("claude", claude), ("chat", chat), ("responses", responses)):
        asked = body(calls=calls, results=results, tools=tools)
        assert key(dialect, asked, LOOSE) == key(dialect, body(calls=(0, 1, 2)), LOOSE)


@FORMATS
def test_a_secret_keeps_keys_from_being_guessed(dialect, body):
    keys = {key(dialect, body(), secret=secret) for secret in (b"", b"one", b"two")}
    assert len(keys) == 3
    assert key(dialect, body(), secret=b"one").startswith("v2.hmac-sha256.")
    assert raw_key("p", "m", secret=b"one") != raw_key("p", "m")


def test_long_texts_count_in_full_and_refuse_what_no_wire_can_carry():
    def asked(text):
        return key("chat", {"model": "m", "messages": [{"role": "user", "content": text}]})

    long = "word " * 1000
    assert asked(long) == asked(long + " ")
    assert asked(long) != asked(long.replace("word", "work", 1))
    with pytest.raises(MalformedRequest):
        asked(long + "\ud800.")


PIXELS = bytes(range(256))
BASE64 = base64.b64encode(PIXELS).decode()
OTHER = base64.b64encode(PIXELS[::-1]).decode()


def image(dialect, data=BASE64, media_type="image/png", **more):
    if dialect == "claude":
        block = {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}, **more}
    elif dialect == "chat":
        block = {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{data}", **more}}
    else:
        block = {"type": "input_image", "image_url": f"data:{media_type};base64,{data}", **more}
    return pictured(dialect, block)


def pictured(dialect, block):
    field = "input" if dialect == "responses" else "messages"
    return {"model": "m", "max_tokens": 1, field: [{"role": "user", "content": [block]}]}


EVERY_DIALECT = pytest.mark.parametrize("dialect", DIALECTS)


@EVERY_DIALECT
def test_an_image_in_the_request_counts_by_its_bytes_and_media_type(dialect):
    broken = "\n".join(BASE64[at : at + 76] for at in range(0, len(BASE64), 76))
    same = [BASE64, broken, BASE64.rstrip("="), BASE64.replace("+", "-").replace("/", "_")]
    assert len({key(dialect, image(dialect, data)) for data in same}) == 1
    other = [image(dialect, OTHER), image(dialect, media_type="image/jpeg"), image(dialect, BASE64 + "!")]
    assert len({key(dialect, body) for body in (image(dialect), *other)}) == 4


@pytest.mark.parametrize("dialect", ["chat", "responses"])
def test_the_detail_of_an_image_counts_and_its_default_is_auto(dialect):
    keys = [key(dialect, image(dialect, **more)) for more in ({}, {"detail": "auto"}, {"detail": "low"})]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("dialect", "block"),
    [
        ("claude", lambda url: {"type": "image", "source": {"type": "url", "url": url}}),
        ("claude", lambda url: {"type": "document", "source": {"type": "url", "url": url}}),
        ("chat", lambda url: {"type": "image_url", "image_url": {"url": url}}),
        ("responses", lambda url: {"type": "input_image", "image_url": url}),
        ("responses", lambda url: {"type": "input_file", "file_url": url}),
    ],
)
def test_a_link_counts_as_it_is_written(dialect, block):
    urls = ["https://shop/p.png", "https://shop/p.png?v=2", "https://shop/P.png", "data:,text"]
    assert len({key(dialect, pictured(dialect, block(url))) for url in urls}) == len(urls)


def test_a_file_counts_by_its_bytes_its_name_and_its_settings():
    def pdf(data=BASE64, **more):
        source = {"type": "base64", "media_type": "application/pdf", "data": data}
        return key("claude", pictured("claude", {"type": "document", "source": source, **more}))

    assert pdf() == pdf(BASE64.rstrip("="))
    assert len({pdf(), pdf(OTHER), pdf(title="Terms"), pdf(citations={"enabled": True})}) == 4

    def file(name="a.pdf", data=BASE64):
        held = {"filename": name, "file_data": f"data:application/pdf;base64,{data}"}
        return key("chat", pictured("chat", {"type": "file", "file": held}))

    assert len({file(), file("b.pdf"), file(data=OTHER)}) == 3


def test_what_only_looks_like_base64_counts_as_it_is_written():
    def plain(data):
        source = {"type": "text", "media_type": "text/plain", "data": data}
        return key("claude", pictured("claude", {"type": "document", "source": source}))

    def stored(file_id):
        return key("claude", pictured("claude", {"type": "image", "source": {"type": "file", "file_id": file_id}}))

    assert plain("YWJj") != plain("YWJj\n")
    assert stored("file_1") != stored("file_2")


def test_a_recording_counts_by_its_bytes_and_format():
    def recording(data=BASE64, form="wav"):
        block = {"type": "input_audio", "input_audio": {"data": data, "format": form}}
        return key("chat", pictured("chat", block))

    assert recording() == recording(BASE64.rstrip("="))
    assert len({recording(), recording(OTHER), recording(form="mp3")}) == 3
