"""The HTTP around the simulated providers: routes, streams, and the clock's own path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from prefixcache_integrations import dialects
from prefixcache_integrations.canonical.json import as_object
from prefixcache_integrations.dialects import sse
from prefixcache_integrations.server.clock import MAX_ADVANCE, SimulatorClock
from prefixcache_integrations.server.faces import FACES, Face
from prefixcache_integrations.server.provider import Answer, Arrival, Provider

CLOCK_PATH = "/_simulator/clock"
"""``POST {"advance": seconds}`` moves the simulator's clock and answers ``{"now": seconds}``."""

_CLIENT_CLOSED = 499


class Pace(Struct, frozen=True, kw_only=True):
    """Real seconds to wait: before the first byte of an answer, and between the events of a stream."""

    first_byte: float = 0.0
    event: float = 0.0


def application(provider: Provider, clock: SimulatorClock, pace: Pace) -> Starlette:
    """Return the app that serves ``provider``."""

    async def not_found(request: HttpRequest, _: Exception) -> Response:
        arrival = Arrival(path=request.url.path, headers=dict(request.headers), content=b"")
        answer = provider.not_found(request.method, arrival)
        provider.began(answer)
        return JSONResponse(answer.body, status_code=answer.call.status)

    async def move_clock(request: HttpRequest) -> Response:
        try:
            body = as_object(msgspec.json.decode(await request.body())) or {}
            seconds = body.get("advance")
            now = clock.advance(seconds if isinstance(seconds, int | float) else -1)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return JSONResponse({"error": f'expected {{"advance": seconds}}, 0 to {MAX_ADVANCE}'}, status_code=400)
        return JSONResponse({"now": now})

    routes = [Route(face.path, _endpoint(face, provider, pace), methods=["POST"]) for face in FACES]
    routes.append(Route(CLOCK_PATH, move_clock, methods=["POST"]))
    return Starlette(routes=routes, exception_handlers={HTTPException: not_found})


def _endpoint(face: Face, provider: Provider, pace: Pace) -> Callable[[HttpRequest], Coroutine[None, None, Response]]:
    async def endpoint(request: HttpRequest) -> Response:
        arrival = Arrival(
            path=request.url.path,
            headers=dict(request.headers),
            content=await request.body(),
            deployment=request.path_params.get("deployment"),
        )
        answer = await run_in_threadpool(provider.answer, face, arrival)
        await asyncio.sleep(pace.first_byte)
        if await request.is_disconnected():
            return Response(status_code=_CLIENT_CLOSED)
        if answer.streamed:
            return StreamingResponse(_events(face, provider, answer, pace), media_type="text/event-stream")
        provider.began(answer)
        return JSONResponse(answer.body, status_code=answer.call.status)

    return endpoint


async def _events(face: Face, provider: Provider, answer: Answer, pace: Pace) -> AsyncIterator[bytes]:
    """Write the stream; the answer has begun with its first event."""
    provider.began(answer)
    if answer.response is None:
        return
    dialect = dialects.by_name(face.dialect)
    events = dialect.encode_stream(answer.response, include_usage=answer.include_usage)
    for number, piece in enumerate(sse.format_stream(face.dialect, events)):
        if number:
            await asyncio.sleep(pace.event)
        yield piece
