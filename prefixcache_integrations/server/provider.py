"""One call to a simulated provider, from the bytes that came in to the answer, without the HTTP around it."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Mapping
from itertools import count

import msgspec
from msgspec import Struct

from prefixcache_integrations import dialects, profiles
from prefixcache_integrations.canonical import JsonObject, Request, Response, Tokenizer, Usage
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.dialects.wire import to_json
from prefixcache_integrations.errors import MalformedRequest
from prefixcache_integrations.insight.simulator import CacheSettings, PromptCache, Ticket, refusal
from prefixcache_integrations.insight.simulator_diagnostics import Answered, diagnosis
from prefixcache_integrations.insight.simulator_rules import Refusal
from prefixcache_integrations.server.calls import SECRET_HEADERS, Call
from prefixcache_integrations.server.clock import SimulatorClock
from prefixcache_integrations.server.compose import compose
from prefixcache_integrations.server.faces import Face, api_key, error_body, missing_key, nearest, unknown_path
from prefixcache_integrations.server.models import Model, Reply
from prefixcache_integrations.server.tiers import processed

MAX_CALLS = 100_000
"""How many calls are remembered; the oldest go first."""

MAX_COMPARABLE = 1000
"""How many answered requests are kept to compare later ones with."""


class Arrival(Struct, frozen=True, kw_only=True):
    """A call as it came in. ``deployment`` is the name in an Azure path."""

    path: str
    headers: Mapping[str, str]
    content: bytes
    deployment: str | None = None


class Answer(Struct, frozen=True, kw_only=True):
    """What to send back: a body, or where ``response`` is set and the request asked for it, a stream.

    ``ticket`` is to be handed to `Provider.began` when the first byte leaves; ``call`` is what will be remembered.
    """

    call: Call
    body: JsonObject
    response: Response | None = None
    ticket: Ticket | None = None
    streamed: bool = False
    include_usage: bool = True


class Provider:
    """The providers behind one simulator: one clock, one model, one memory of calls. Thread-safe.

    ``deployments`` maps Azure deployment names to models; a name that is not in it is taken for the model's.
    ``organisations`` maps API keys to the organisation that shares a cache; a key that is not in it stands alone.
    """

    def __init__(
        self,
        *,
        model: Model,
        tokenizer: Tokenizer,
        clock: SimulatorClock,
        settings: CacheSettings | None = None,
        deployments: Mapping[str, str] | None = None,
        organisations: Mapping[str, str] | None = None,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._clock = clock
        self._deployments = dict(deployments or {})
        self._organisations = dict(organisations or {})
        self._cache = PromptCache(tokenizer, settings)
        self._calls: deque[Call] = deque(maxlen=MAX_CALLS)
        self._answered: dict[str, Answered] = {}
        self._numbers = count(1)
        self._lock = threading.Lock()

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls answered so far, the latest `MAX_CALLS` of them, in the order in which they arrived."""
        with self._lock:
            return tuple(sorted(self._calls, key=lambda call: call.number))

    def reset(self) -> None:
        """Forget the calls and every cache entry; ids and the clock go on."""
        with self._lock:
            self._calls.clear()
            self._answered.clear()
            self._cache.clear()

    def answer(self, face: Face, arrival: Arrival) -> Answer:
        """Answer one call; blocks for as long as the model does."""
        call = self._arrived(arrival)
        key = api_key(arrival.headers)
        if key is None:
            return _refused(call, face, 401, missing_key(face.provider))
        call = msgspec.structs.replace(call, scope=self._scope(key))
        try:
            body = _object(arrival.content)
            call = msgspec.structs.replace(call, body=body)
            request = self._read(face, body, arrival.deployment)
            call = msgspec.structs.replace(call, request=request)
            return self._serve(face, call, request)
        except MalformedRequest as error:
            return _refused(call, face, 400, Refusal(message=str(error), param=error.path or None))

    def not_found(self, method: str, arrival: Arrival) -> Answer:
        """Answer a call to a path that does not exist."""
        face = nearest(arrival.path)
        return _refused(self._arrived(arrival), face, 404, unknown_path(face.provider, method, arrival.path))

    def began(self, answer: Answer) -> None:
        """Note that the first byte of ``answer`` is leaving: its cache entries become readable."""
        with self._lock:
            if answer.ticket is not None:
                self._cache.started(answer.ticket, now=self._clock.now())
            self._calls.append(answer.call)

    def _arrived(self, arrival: Arrival) -> Call:
        headers = {name: value for name, value in arrival.headers.items() if name not in SECRET_HEADERS}
        with self._lock:
            number = next(self._numbers)
        return Call(number=number, path=arrival.path, headers=headers, at=self._clock.now(), status=200)

    def _scope(self, key: str) -> str:
        return self._organisations.get(key) or hashlib.sha256(key.encode()).hexdigest()[:16]

    def _read(self, face: Face, body: JsonObject, deployment: str | None) -> Request:
        """Read a request; on Azure the model is a deployment, named in the path or, failing that, in the body."""
        if deployment is not None:
            body = {**body, "model": deployment}
        request = dialects.by_name(face.dialect).decode_request(body)
        if face.provider != "azure":
            return request
        return msgspec.structs.replace(request, model=self._deployments.get(request.model, request.model))

    def _serve(self, face: Face, call: Call, request: Request) -> Answer:
        profile = profiles.resolve(request.model, face.provider)
        if refused := refusal(request, profile):
            return _refused(call, face, 400, refused)
        with self._lock:
            ticket = self._cache.begin(request, profile, scope=call.scope or "", now=call.at)
        reply = self._reply(request)
        usage = processed(self._billed(ticket.usage, reply), request, profile)
        answered = Answered(request=request, usage=usage, scope=call.scope or "")
        extra = diagnosis(answered, profile, lambda name: self._recall(name, answered.scope), self._tokenizer)
        response = compose(request, reply, usage, number=call.number, now=call.at, extra=extra)
        self._remember(response.id, answered)
        body = dialects.by_name(face.dialect).encode_response(response)
        options = as_object(request.options.get("stream_options")) or {}
        return Answer(
            call=msgspec.structs.replace(call, usage=usage, answer=body),
            body=body,
            response=response,
            ticket=ticket,
            streamed=request.options.get("stream") is True,
            include_usage=face.dialect != "openai_chat" or options.get("include_usage") is True,
        )

    def _reply(self, request: Request) -> Reply | None:
        """Ask the model; ``None`` for a pre-warming request, which asks for no answer."""
        if request.dialect == "anthropic_messages" and request.options.get("max_tokens") == 0:
            return None
        try:
            return self._model(request)
        except Exception as error:  # whatever a test's model raises is told to who waits for it
            raise MalformedRequest(f"the simulated model failed: {type(error).__name__}: {error}") from error

    def _billed(self, usage: Usage, reply: Reply | None) -> Usage:
        written = [] if reply is None else [reply.written]
        for use in reply.tool_calls if reply else ():
            written += [use.name, to_json(use.arguments)]
        return msgspec.structs.replace(usage, output_tokens=sum(map(self._tokenizer.count, written)))

    def _remember(self, name: str, answered: Answered) -> None:
        with self._lock:
            self._answered[name] = answered
            if len(self._answered) > MAX_COMPARABLE:
                del self._answered[next(iter(self._answered))]

    def _recall(self, name: str, scope: str) -> Answered | None:
        with self._lock:
            found = self._answered.get(name)
        return found if found is not None and found.scope == scope else None


def _object(content: bytes) -> JsonObject:
    try:
        body = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequest("We could not parse the JSON body of your request") from error
    decoded = as_object(body)
    if decoded is None:
        raise MalformedRequest("The body of your request must be a JSON object")
    return decoded


def _refused(call: Call, face: Face, status: int, refused: Refusal) -> Answer:
    body = error_body(face, status, refused, f"req_sim_{call.number:04}")
    return Answer(call=msgspec.structs.replace(call, status=status, answer=body), body=body)
