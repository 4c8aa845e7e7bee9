"""Streams of Claude's models with the provider's own usage, as their other answers have it.

langchain-anthropic makes the usage of a stream of its last event, and leaves out what decides the price: the lifetimes
of writes, tier, speed, place and iterations.
"""

from __future__ import annotations

import inspect
from typing import Any

from prefixcache_integrations.sdk_answers import complete


class TellsUsage:
    """What a view of langchain-anthropic's models does besides: the end of a stream has ``usage`` in its metadata."""

    def _create(self, payload: dict[str, Any]) -> Any:  # noqa: ANN401 - of the SDK
        answer = super()._create(payload)  # type: ignore[misc] # the model's class has it
        if payload.get("stream"):
            complete(_stream_of(answer))
        return answer

    async def _acreate(self, payload: dict[str, Any]) -> Any:  # noqa: ANN401 - of the SDK
        answer = await super()._acreate(payload)  # type: ignore[misc] # as above
        if payload.get("stream"):
            stream = _stream_of(answer)
            complete(await stream if inspect.isawaitable(stream) else stream)
        return answer

    def _make_message_chunk_from_anthropic_event(self, event: Any, **kwargs: object) -> Any:  # noqa: ANN401 - theirs
        made = super()._make_message_chunk_from_anthropic_event(event, **kwargs)  # type: ignore[misc] # as above
        chunk = made[0]
        if chunk is not None and event.type == "message_delta" and event.delta.stop_reason:
            chunk.response_metadata["usage"] = event.usage.model_dump(mode="json", exclude_none=True)
        return made


def _stream_of(answer: Any) -> Any:  # noqa: ANN401 - of the SDK
    """Return the stream of an answer, which is parsed once and for all; older versions are given the stream itself."""
    return answer.parse() if hasattr(answer, "parse") else answer
