"""What every dialect must do, whatever its wire format: subclass `DialectContract` and give it bodies."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct, structs

from prefixcache_integrations.canonical import Address, CacheMarker, Part, Request, Response, Usage
from prefixcache_integrations.dialects import Dialect, sse
from prefixcache_integrations.errors import MalformedRequest
from tests.sent import streamed

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
COUNTS = st.integers(0, 10**7)

# One law runs once per subclass, which is what this health check is about; nothing is shared between the runs,
# and without a database neither is a failure of one dialect replayed on another.
law = settings(suppress_health_check=[HealthCheck.differing_executors], database=None, max_examples=60)


class Golden(Struct, frozen=True):
    """Bodies of one wire format, by the name of what they show; "future" in a name: unknown to today's SDKs."""

    requests: Mapping[str, Any]
    responses: Mapping[str, Any]
    streams: Mapping[str, Any]

    @classmethod
    def load(cls, name: str) -> Golden:
        """Read the golden bodies of the dialect called ``name``."""
        folder = Path(__file__).parent / "golden"
        return cls(*(json.loads((folder / f"{name}.{kind}.json").read_text()) for kind in cls.__struct_fields__))


class DialectContract:
    """The laws. ``ttls`` are the lifetimes whose writes the format reports apart."""

    dialect: ClassVar[Dialect]
    golden: ClassVar[Golden]
    ttls: ClassVar[tuple[str, str]]
    reports_unknown_counts: ClassVar[bool] = True
    refused: ClassVar[Mapping[str, tuple[Any, str]]]
    """Bodies that are not of the format, by what is wrong, with the path that the refusal names."""

    def check_request(self, body: Any) -> None:
        """Check a request body against somebody else's idea of the format."""

    def check_response(self, body: Any) -> None:
        """Check a response body likewise."""

    def check_event(self, event: Any) -> None:
        """Check a streamed event likewise."""

    # Requests

    def test_a_request_that_is_only_read_is_written_as_it_came(self) -> None:
        for name, body in self.golden.requests.items():
            before = copy.deepcopy(body)
            request = self.dialect.decode_request(body)
            assert self.dialect.encode_request(request) == before, name
            assert body == before, name
            assert request.dialect == self.dialect.name

    @law
    @given(st.data())
    def test_whatever_body_decodes_is_written_as_it_came(self, data: st.DataObject) -> None:
        body = data.draw(mutated(st.sampled_from(list(self.golden.requests.values()))))
        before = copy.deepcopy(body)
        try:
            request = self.dialect.decode_request(body)
        except MalformedRequest:
            return
        assert self.dialect.encode_request(request) == before
        assert body == before

    def test_the_golden_requests_are_the_sdks_requests_too(self) -> None:
        for name, body in self.golden.requests.items():
            if "future" not in name:
                self.check_request(self.dialect.encode_request(self.dialect.decode_request(body)))

    def test_a_marker_is_written_at_every_place_that_says_it_can_carry_one(self) -> None:
        marker = CacheMarker(ttl=self.ttls[1])
        places = 0
        for name, body in self.golden.requests.items():
            plain = unmarked(self.dialect.decode_request(body))
            for place in markable(plain):
                sent = self.dialect.encode_request(marked(plain, place, marker))
                read = self.dialect.decode_request(sent)
                found = markers(read)
                assert list(found) == [place], (name, str(place))
                assert found[place].ttl == marker.ttl
                assert found[place].raw == self.dialect.encode_marker(marker)
                assert texts(read) == texts(plain)
                if "future" not in name:
                    self.check_request(sent)
                places += 1
        assert places > 10

    def test_markers_are_no_part_of_what_the_model_reads(self) -> None:
        body = self.golden.requests["markers"]
        request = self.dialect.decode_request(body)
        assert markers(request)
        again = self.dialect.decode_request(self.dialect.encode_request(unmarked(request)))
        assert not markers(again)
        assert texts(again) == texts(request)

    def test_a_marker_keeps_its_unknown_fields_and_takes_a_changed_lifetime(self) -> None:
        found = {**self.dialect.encode_marker(CacheMarker(ttl=self.ttls[0])), "scope": "team"}
        marker = CacheMarker(ttl=self.ttls[0], raw=found)
        assert self.dialect.encode_marker(marker) == found
        assert self.dialect.encode_marker(structs.replace(marker, ttl=self.ttls[1])) == {**found, "ttl": self.ttls[1]}
        assert "ttl" not in self.dialect.encode_marker(structs.replace(marker, ttl=None))

    def test_what_the_format_does_not_allow_is_refused_with_its_path(self) -> None:
        for name, (body, path) in self.refused.items():
            with pytest.raises(MalformedRequest) as refusal:
                self.dialect.decode_request(body)
            assert refusal.value.path == path, name

    @law
    @given(st.data())
    def test_a_lone_surrogate_is_refused_wherever_it_stands(self, data: st.DataObject) -> None:
        body = copy.deepcopy(data.draw(st.sampled_from(list(self.golden.requests.values()))))
        spots = [path for path in paths(body) if isinstance(at(body, path), str)]
        path = data.draw(st.sampled_from(spots))
        replace(body, path, "confidential \ud83d words")
        with pytest.raises(MalformedRequest) as refusal:
            self.dialect.decode_request(body)
        assert "surrogate" in refusal.value.reason
        assert refusal.value.path == "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in path).lstrip(".")
        assert "confidential" not in str(refusal.value)

    def test_a_lone_surrogate_in_a_field_name_is_refused(self) -> None:
        with pytest.raises(MalformedRequest):
            self.dialect.decode_request({**self.golden.requests["plain"], "metadata": {"\udc00": 1}})

    def test_nesting_without_end_is_refused(self) -> None:
        deep: Any = "bottom"
        for _ in range(5000):
            deep = [deep]
        with pytest.raises(MalformedRequest) as refusal:
            self.dialect.decode_request({**self.golden.requests["plain"], "metadata": deep})
        assert refusal.value.path.startswith("metadata[0]")

    def test_options_that_are_no_json_are_carried_along(self) -> None:
        class Omitted:
            pass

        absent = Omitted()
        extras = {"response_format": Omitted, "timeout": absent, "tools": absent, "stream": True}
        body = {**self.golden.requests["plain"], **extras}
        request = self.dialect.decode_request(body)
        assert request.tools == ()
        assert request.options["response_format"] is Omitted
        assert self.dialect.encode_request(request) == body

    def test_a_message_of_a_million_characters_is_read(self) -> None:
        def grow(value: Any) -> Any:
            return "é" * 1_000_000 if isinstance(value, str) else value

        body = copy.deepcopy(self.golden.requests["plain"])
        for path in paths(body):
            if path[-1] in ("content", "input"):
                replace(body, path, grow(at(body, path)))
        assert "é" * 1_000_000 in texts(self.dialect.decode_request(body))

    # Responses

    def test_a_response_that_is_only_read_is_written_as_it_came(self) -> None:
        for name, case in self.golden.responses.items():
            before = copy.deepcopy(case["body"])
            response = self.dialect.decode_response(case["body"])
            assert self.dialect.encode_response(response) == before, name
            assert case["body"] == before, name
            assert response.stop_reason == case["stop_reason"], name
            assert [part.text for part in response.parts] == case["texts"], name
            assert structs.asdict(response.usage) == structs.asdict(Usage()) | case["usage"], name

    @law
    @given(st.data())
    def test_whatever_response_decodes_is_written_as_it_came(self, data: st.DataObject) -> None:
        bodies = [case["body"] for case in self.golden.responses.values()]
        body = data.draw(mutated(st.sampled_from(bodies)))
        before = copy.deepcopy(body)
        try:
            response = self.dialect.decode_response(body)
        except MalformedRequest:
            return
        assert self.dialect.encode_response(response) == before
        assert body == before

    def test_a_response_under_a_new_id_is_the_same_but_for_its_id(self) -> None:
        for case in self.golden.responses.values():
            response = structs.replace(self.dialect.decode_response(case["body"]), id="fresh")
            assert self.dialect.encode_response(response) == {**case["body"], "id": "fresh"}

    def test_the_golden_responses_are_the_sdks_responses_too(self) -> None:
        for name, case in self.golden.responses.items():
            if "future" not in name and "cut_short" not in name:
                self.check_response(case["body"])

    def test_what_is_no_response_is_refused(self) -> None:
        for body in ({}, {"error": {"message": "no"}}, {"type": "message"}, {"object": "response"}, {"choices": []}):
            with pytest.raises(MalformedRequest):
                self.dialect.decode_response(body)

    @law
    @given(st.data())
    def test_a_composed_response_is_a_whole_body_of_the_provider(self, data: st.DataObject) -> None:
        composed = data.draw(self.composed())
        body = self.dialect.encode_response(composed)
        self.check_response(body)
        read = self.dialect.decode_response(body)
        assert self.dialect.encode_response(read) == body
        assert (read.id, read.model, read.stop_reason) == (composed.id, composed.model, composed.stop_reason)
        assert [told(part) for part in read.parts] == [told(part) for part in composed.parts]
        assert read.usage == composed.usage

    # Usage

    @law
    @given(st.data())
    def test_usage_that_is_written_is_read_back(self, data: st.DataObject) -> None:
        usage = data.draw(self.usages())
        assert self.dialect.decode_usage(self.dialect.encode_usage(usage)) == usage

    def test_unknown_usage_stays_unknown(self) -> None:
        assert self.dialect.decode_usage({}) == Usage()

    # Streams

    @law
    @given(st.data())
    def test_a_stream_adds_up_to_the_response_it_came_from(self, data: st.DataObject) -> None:
        composed = data.draw(self.composed())
        events = list(self.dialect.encode_stream(composed))
        whole = self.dialect.decode_response(self.dialect.encode_response(composed))
        assert self.dialect.decode_stream(events) == whole
        for event in events:
            self.check_event(event)

    def test_the_golden_responses_survive_their_stream(self) -> None:
        for name, case in self.golden.responses.items():
            response = self.dialect.decode_response(case["body"])
            events = list(self.dialect.encode_stream(response))
            assert self.dialect.decode_stream(events) == response, name
            if "future" not in name and "cut_short" not in name:
                for event in events:
                    self.check_event(event)

    def test_a_recorded_stream_adds_up_to_its_body(self) -> None:
        for name, case in self.golden.streams.items():
            before = copy.deepcopy(case["events"])
            response = self.dialect.decode_stream(iter(case["events"]))
            assert response is not None, name
            assert self.dialect.encode_response(response) == case["body"], name
            assert response == self.dialect.decode_response(case["body"]), name
            assert case["events"] == before, name

    def test_a_stream_that_breaks_off_adds_up_to_nothing(self) -> None:
        for name, case in self.golden.streams.items():
            last = max(index for index, event in enumerate(case["events"]) if self.ends(event))
            for length in range(last):
                assert self.dialect.decode_stream(case["events"][:length]) is None, (name, length)

    def ends(self, event: Any) -> bool:
        """Tell whether this event makes a stream whole."""
        raise NotImplementedError

    def test_text_comes_in_several_pieces(self) -> None:
        text = "A sentence that is longer than one piece of a stream may be, by far."
        parts = (Part(kind="text", raw={}, text=text),)
        composed = Response(dialect=self.dialect.name, id="r_1", model="m", parts=parts)
        events = [json.dumps(event) for event in self.dialect.encode_stream(composed)]
        assert len([event for event in events if text not in event and any(w in event for w in text.split()[1:])]) > 2

    @law
    @given(st.data())
    def test_the_bytes_of_a_stream_say_its_events_under_their_names(self, data: st.DataObject) -> None:
        events = list(self.dialect.encode_stream(data.draw(self.composed())))
        read = streamed(b"".join(sse.format_stream(self.dialect.name, events)))
        assert [event for _, event in read if event is not None] == events
        assert all(name == event["type"] for name, event in read if name)

    # What the laws are tried on

    def usages(self) -> st.SearchStrategy[Usage]:
        """Usage as the provider reports it: disjoint buckets, writes split or not."""

        @st.composite
        def build(draw: st.DrawFn) -> Usage:
            split = draw(st.fixed_dictionaries(dict.fromkeys(self.ttls, COUNTS)) | st.none())
            known = not self.reports_unknown_counts or split is not None or draw(st.booleans())
            write = sum(split.values()) if split is not None else draw(COUNTS) if known else None
            read = draw(COUNTS) if known else None
            return Usage(
                input_tokens=draw(COUNTS) + (read or 0) + (write or 0),
                cache_read_tokens=read,
                cache_write_tokens=write,
                cache_write_by_ttl=split,
                output_tokens=draw(COUNTS),
            )

        return build()

    def composed(self) -> st.SearchStrategy[Response]:
        """Responses as a simulator composes them: a text, tool calls, or both."""
        words = TEXT.filter(bool)
        text = st.builds(lambda value: Part(kind="text", raw={}, text=value), words)
        call = st.builds(
            lambda call_id, name, arguments: Part(
                kind="tool_call", raw={}, text=json.dumps(arguments, separators=(",", ":"), ensure_ascii=False),
                call_id=call_id, name=name,
            ),
            words, words, st.dictionaries(TEXT, JSON, max_size=3),
        )  # fmt: skip
        parts = st.tuples(st.lists(text, max_size=1), st.lists(call, max_size=3)).map(
            lambda found: (*found[0], *found[1])
        )
        stop = {True: st.just("tool_calls"), False: st.sampled_from(["stop", "length"])}

        @st.composite
        def build(draw: st.DrawFn) -> Response:
            found = draw(parts)
            return Response(
                dialect=self.dialect.name,
                id=draw(words),
                model=draw(words),
                parts=found,
                stop_reason=draw(stop[any(part.kind == "tool_call" for part in found)]),
                usage=draw(self.usages()),
            )

        return build()


def told(part: Part) -> tuple[object, ...]:
    """Return what a part says, apart from how it is spelled."""
    return part.kind, part.text, part.call_id, part.name


def places(request: Request) -> Iterator[tuple[Address, Any]]:
    """Yield every place of a request that could carry a marker, in wire order."""
    yield from ((Address("tools", index), tool) for index, tool in enumerate(request.tools))
    yield from ((Address("system", index), part) for index, part in enumerate(request.system))
    for index, message in enumerate(request.messages):
        yield from ((Address("messages", index, number), part) for number, part in enumerate(message.parts))


def markers(request: Request) -> dict[Address, CacheMarker]:
    return {place: found.marker for place, found in places(request) if found.marker is not None}


def markable(request: Request) -> list[Address]:
    return [place for place, found in places(request) if found.markable]


def texts(request: Request) -> list[str]:
    return [getattr(found, "text", "") for _, found in places(request)]


def marked(request: Request, place: Address, marker: CacheMarker | None) -> Request:
    """Return ``request`` with ``marker`` at ``place``."""
    if place.section == "messages":
        message = request.messages[place.index]
        parts = put(message.parts, place.part or 0, marker)
        messages = [*request.messages]
        messages[place.index] = structs.replace(message, parts=parts)
        return structs.replace(request, messages=tuple(messages))
    section = put(getattr(request, place.section), place.index, marker)
    return structs.replace(request, **{place.section: section})


def put(items: Any, index: int, marker: CacheMarker | None) -> tuple[Any, ...]:
    return (*items[:index], structs.replace(items[index], marker=marker), *items[index + 1 :])


def unmarked(request: Request) -> Request:
    for place in markers(request):
        request = marked(request, place, None)
    return structs.replace(request, marker=None)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside a body."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path for step, inner in steps for path in paths(inner, (*here, step))]
    return [here, *found] if here else found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def replace(value: Any, path: tuple[Any, ...], new: Any) -> None:
    at(value, path[:-1])[path[-1]] = new


@st.composite
def mutated(draw: st.DrawFn, bodies: st.SearchStrategy[Any]) -> Any:
    """Draw a body with a few values replaced or taken out, and fields and items added that nobody knows."""
    body = copy.deepcopy(draw(bodies))
    for _ in range(draw(st.integers(1, 3))):
        spots = paths(body)
        if not spots:
            break
        path = draw(st.sampled_from(spots))
        holder, new = at(body, path[:-1]), draw(JSON | st.sampled_from([None, [], {}, "", "text"]))
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                replace(body, path, new)
            case "remove":
                del holder[path[-1]]
            case _ if isinstance(holder, dict):
                holder[draw(st.sampled_from(["x_unknown", "name", "content", "type", "cache_control", "ttl"]))] = new
            case _:
                holder.insert(path[-1], new)
    return body
