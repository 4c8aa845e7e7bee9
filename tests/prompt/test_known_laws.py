"""Laws of the planner where templates say what calls fill in, over arbitrary bodies of every wire format."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from prefixcache_integrations.canonical import Address, Part, Request
from prefixcache_integrations.dialects.anthropic_messages import AnthropicMessages
from prefixcache_integrations.dialects.dialect import Dialect
from prefixcache_integrations.dialects.openai_chat import OpenAIChat
from prefixcache_integrations.dialects.openai_responses import OpenAIResponses
from prefixcache_integrations.profiles import resolve
from prefixcache_integrations.prompt.call_order import results_in_call_order
from prefixcache_integrations.prompt.document_rules import DocumentRules
from prefixcache_integrations.prompt.known import KnownPrompt, KnownText, Slot
from prefixcache_integrations.prompt.layout import Decision, apply, decide
from prefixcache_integrations.prompt.stability import PromptMemory, Snapshot
from tests.prompt.bodies import CHAT_BODIES, CLAUDE_BODIES, RESPONSES_BODIES
from tests.prompt.wire_rules import claude_faults, claude_markers, openai_faults, openai_markers
from tests.prompt.words import WORDS

FORMATS: list[tuple[Dialect, Any]] = [
    (AnthropicMessages(), CLAUDE_BODIES),
    (OpenAIChat(), CHAT_BODIES),
    (OpenAIResponses(), RESPONSES_BODIES),
]
PLACEHOLDER = re.compile(r"\[value(\d+): stated at the end\]|\[stated in <documents_(\d+)>, before the question\]")

every_format = pytest.mark.parametrize(("dialect", "bodies"), FORMATS, ids=lambda value: getattr(value, "name", ""))
law = settings(max_examples=30)


def parts(request: Request) -> Iterator[tuple[str, Part]]:
    yield from (("system", part) for part in request.system)
    for message in request.messages:
        yield from ((message.role, part) for part in message.parts)


def known(request: Request, data: st.DataObject) -> KnownPrompt:
    """Say of some texts of ``request`` which characters were filled in."""
    found = sorted({part.text for _, part in parts(request) if part.kind == "text"})
    texts = [KnownText(text, slots(text, data)) for text in found if data.draw(st.booleans())]
    return KnownPrompt(tuple(texts), data.draw(st.booleans()))


def slots(text: str, data: st.DataObject) -> tuple[Slot, ...]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    kinds = st.sampled_from(["value", "documents"])
    return tuple(
        Slot(name="x", start=start, end=end, kind=data.draw(kinds))
        for start, end in zip(cuts[::2], cuts[1::2], strict=False)
    )


def decided(request: Request, told: KnownPrompt, snapshot: Snapshot | None = None) -> Decision:
    rules, profile = DocumentRules(drop_copies=False), resolve(request.model)
    profile = profile if snapshot is None else replace(profile, minimum_tokens=32)
    return decide(request, profile, WORDS, level="arrange", known=told, documents=rules, snapshot=snapshot)


def everything(request: Request) -> str:
    """Return all that is said, in order, with values back in their places."""
    values, documents, said = dict[str, str](), dict[str, str](), list[str]()
    for _, part in parts(request):
        moved = re.fullmatch(r"<documents_(\d+)>\n(.*)\n</documents_\1>", part.text, re.DOTALL)
        if moved:
            documents[moved[1]] = moved[2]
        elif part.text.startswith("[value") and not PLACEHOLDER.match(part.text):
            lines = re.split(r"(?:\A|\n)\[value(\d+)\] ", part.text)[1:]
            values |= dict(zip(lines[::2], lines[1::2], strict=True))
        else:
            said.append(part.text if part.kind == "text" else json.dumps(part.raw))

    def back(found: re.Match[str]) -> str:
        return values[found[1]] if found[1] else documents[found[2]]

    return PLACEHOLDER.sub(back, "".join(said))


def without_listed_copies(request: Request, made: Decision) -> Request:
    """Return ``request`` without the documents that the plan lists as copies, each of one that stays."""
    gone = {move.source: move.target for move in made.plan.moves if move.reason == "copy"}
    places = {
        Address("messages", index, number): part
        for index, message in enumerate(request.messages)
        for number, part in enumerate(message.parts)
    }
    for source, target in gone.items():
        assert target not in gone
        assert places[source].raw == places[target].raw
    messages = tuple(
        replace(message, parts=tuple(part for at, part in places.items() if at.index == index and at not in gone))
        for index, message in enumerate(request.messages)
    )
    return replace(request, messages=messages)


@every_format
def test_nothing_is_lost_and_what_was_said_stays_in_order(dialect: Dialect, bodies: Any) -> None:
    @law
    @given(bodies, st.data())
    def check(body: dict[str, Any], data: st.DataObject) -> None:
        request = dialect.decode_request(body)
        before = copy.deepcopy(request)
        made = decided(request, known(request, data))
        said = without_listed_copies(request, made)
        in_order = replace(said, messages=results_in_call_order(said.messages))
        assert everything(made.request) == everything(in_order)
        assert request == before

    check()


@every_format
def test_a_plan_says_all_that_was_done(dialect: Dialect, bodies: Any) -> None:
    @law
    @given(bodies, st.data())
    def check(body: dict[str, Any], data: st.DataObject) -> None:
        request = dialect.decode_request(body)
        made = decided(request, known(request, data))
        assert apply(request, made.plan) == made.request
        moved = [move for move in made.plan.moves if move.reason in {"volatile", "retrieved"}]
        text = "".join(part.text for _, part in parts(made.request))
        assert len(PLACEHOLDER.findall(text)) == len(moved)

    check()


@every_format
def test_a_request_that_was_arranged_stays_as_it_is(dialect: Dialect, bodies: Any) -> None:
    @law
    @given(bodies, st.data())
    def check(body: dict[str, Any], data: st.DataObject) -> None:
        request = dialect.decode_request(body)
        told = known(request, data)
        once = dialect.encode_request(decided(request, told).request)
        again = dialect.encode_request(decided(dialect.decode_request(once), told).request)
        assert json.dumps(again) == json.dumps(once)

    check()


@every_format
def test_a_request_that_was_arranged_stays_as_it_is_whatever_was_sent_before(dialect: Dialect, bodies: Any) -> None:
    @law
    @given(st.lists(bodies, min_size=1, max_size=3), st.data())
    def check(run: list[dict[str, Any]], data: st.DataObject) -> None:
        replanned(run, [known(dialect.decode_request(body), data) for body in run], dialect)

    check()


def test_what_was_split_behind_its_head_is_not_taken_for_another_text_with_a_head() -> None:
    head, rest, dialect = "rules " * 1200, "facts " * 1200, AnthropicMessages()
    whole, tail = KnownText(head + rest, (Slot(name="x", start=len(head), end=len(head) + 5),)), len(rest) - 6
    told = KnownPrompt((whole, KnownText(rest, (Slot(name="y", start=tail, end=tail + 5),))), extended=False)
    messages = [{"role": "user", "content": head + rest}]
    body = {"model": "claude-sonnet-5", "max_tokens": 9, "messages": messages}
    once = decided(dialect.decode_request(body), told)
    assert [move.reason for move in once.plan.moves] == ["split"]
    again = decided(dialect.decode_request(dialect.encode_request(once.request)), told)
    assert again.plan.moves == ()


def test_an_input_that_was_one_text_is_a_message_of_the_user_s_once_it_is_split() -> None:
    text, dialect = "rules " * 1200 + "question", OpenAIResponses()
    told = KnownPrompt((KnownText(text, (Slot(name="x", start=7200, end=7208),)),), extended=False)
    request = dialect.decode_request({"model": "gpt-6-sol", "input": text})
    sent = dialect.encode_request(decided(request, told).request)["input"]
    assert [(item["role"], [part["text"][:8] for part in item["content"]]) for item in sent] == [
        ("user", ["rules ru", "question"])
    ]


TAIL = "word " * 10
REPEATED = KnownPrompt(
    (
        KnownText("rules " + TAIL, (Slot(name="x", start=6, end=6),)),
        KnownText(
            "facts[F]" + TAIL, (Slot(name="x", start=5, end=8, kind="documents"), Slot(name="y", start=8, end=8))
        ),
        KnownText(TAIL, (Slot(name="z", start=0, end=0, kind="documents"),)),
    )
)


@pytest.mark.parametrize("text", ["rules " + TAIL, "facts[F]" + TAIL], ids=["cut", "cut and taken from"])
def test_what_a_plan_cut_off_a_text_is_not_taken_for_another_that_a_template_fills_in(text: str) -> None:
    dialect, asked = OpenAIChat(), {"role": "user", "content": TAIL}
    late = {"role": "system", "content": "Be brief."}
    body = {"model": "gpt-5.5", "messages": [{"role": "system", "content": text}, asked, late]}
    once = decided(dialect.decode_request(body), REPEATED)
    assert "split" in {move.reason for move in once.plan.moves}
    sent = dialect.encode_request(once.request)
    assert dialect.encode_request(decided(dialect.decode_request(sent), REPEATED).request) == sent


@law
@given(CLAUDE_BODIES, st.data())
def test_claude_refuses_nothing_we_send(body: dict[str, Any], data: st.DataObject) -> None:
    dialect = AnthropicMessages()
    request = dialect.decode_request(body)
    sent = dialect.encode_request(decided(request, known(request, data)).request)
    assert claude_faults(sent) == []
    assert len(claude_markers(sent)) <= 4


@pytest.mark.parametrize(("dialect", "bodies"), FORMATS[1:], ids=["chat", "responses"])
def test_openai_refuses_nothing_we_send(dialect: Dialect, bodies: Any) -> None:
    @law
    @given(bodies, st.data())
    def check(body: dict[str, Any], data: st.DataObject) -> None:
        request = dialect.decode_request(body)
        sent = dialect.encode_request(decided(request, known(request, data)).request)
        assert openai_faults(sent, markers=resolve(request.model).regime == "breakpoints") == []
        assert len(openai_markers(sent)) <= 4

    check()


def replanned(run: list[dict[str, Any]], told: list[KnownPrompt], dialect: Dialect) -> None:
    """Plan ``run`` three times over, and every request that comes of it once more."""
    memory, requests = PromptMemory(), [dialect.decode_request(body) for body in run]
    for number, (request, texts) in enumerate([*zip(requests, told, strict=True)] * 3):
        snapshot = memory.snapshot(number * 7.0)
        made = decided(request, texts, snapshot)
        once = dialect.encode_request(made.request)
        again = decided(dialect.decode_request(once), texts, snapshot)
        assert json.dumps(dialect.encode_request(again.request)) == json.dumps(once)
        assert apply(request, made.plan) == made.request
        if made.sighting is not None:
            memory.observe(made.sighting, number * 7.0)


CLAUDE = {"model": "claude-opus-4-8", "max_tokens": 100}


def test_texts_of_a_template_lead_also_where_a_document_that_moves_stands_between_them() -> None:
    document = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": ""}]}}
    content = [{"type": "text", "text": "word " * 24}, document, {"type": "text", "text": "word "}]
    empty = {**CLAUDE, "messages": [{"role": "user", "content": ""}]}
    talk = {**CLAUDE, "messages": [{"role": "user", "content": content}, {"role": "user", "content": ""}]}
    template = KnownPrompt((KnownText("word "), KnownText("word " * 24)), extended=False)
    replanned([empty, empty, talk], [KnownPrompt((), extended=False)] * 2 + [template], AnthropicMessages())


def test_a_text_is_split_behind_what_its_template_says_wherever_a_document_stands() -> None:
    document = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": ""}]}}
    words = "another word " * 10
    messages = [
        {"role": "user", "content": [document, {"type": "text", "text": words}]},
        {"role": "user", "content": ""},
    ]
    empty = {**CLAUDE, "messages": [{"role": "user", "content": []}]}
    template = KnownPrompt((KnownText(words, (Slot(name="x", start=32, end=32),)),))
    replanned(
        [empty, {**CLAUDE, "messages": messages}], [KnownPrompt((), extended=False), template], AnthropicMessages()
    )


def test_instructions_that_documents_were_taken_out_of_are_not_split() -> None:
    words, user = "two\n" + "lines two\n" * 5, {"role": "user", "content": " "}
    short = {**CLAUDE, "system": "two\nlines two\n", "messages": [{"role": "user", "content": []}]}
    system = [{"type": "text", "text": words}, {"type": "text", "text": " "}]
    filled = KnownText(" ", (Slot(name="x", start=0, end=0, kind="documents"),))
    told = [KnownPrompt((), extended=False), KnownPrompt((filled,))]
    replanned([short, {**CLAUDE, "system": system, "messages": [user]}], told, AnthropicMessages())


def test_what_was_retrieved_is_not_marked_behind_a_file_either() -> None:
    system = [{"role": "system", "content": text} for text in ("", "", "", "", " ")]
    file = {"role": "user", "content": [{"type": "file", "file": {"file_id": "file_1"}}]}
    run = [{"model": "gpt-5.6-sol", "messages": messages} for messages in ([*system, file], system[:1], system[:1])]
    filled = KnownText(" ", (Slot(name="x", start=0, end=0, kind="documents"),))
    nothing = KnownPrompt((), extended=False)
    replanned(run, [KnownPrompt((filled,)), nothing, nothing], OpenAIChat())
