"""What the metadata of a run says, by which LangSmith and other tracers filter: that it was a hit, or was laid out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation

from prefixcache_integrations.langchain.generations import MARKER

LAYOUT = "prefixcache_layout"
"""At which level the request of a run is laid out. Who lays it out tells what is sent, along the call's own context."""


def mark_traces(run_manager: object, answer: Sequence[Generation]) -> None:
    """Say that ``answer`` is a hit in the metadata of each run that a tracer keeps of this call.

    What handlers are given of a run's metadata is a copy; the run itself is in the tracer that stands among the
    handlers of ``run_manager``.
    """
    for handler in getattr(run_manager, "handlers", ()):
        kept = getattr(handler, "run_map", None)
        if kept is not None:
            _mark(kept, str(getattr(run_manager, "run_id", "")), answer)


def _mark(kept: object, run: str, answer: Sequence[Generation]) -> None:
    if isinstance(kept, Mapping) and run in kept and (marker := _marker(answer)) is not None:
        kept[run].extra.setdefault("metadata", {})[MARKER] = marker


def _marker(answer: Sequence[Generation]) -> Mapping[str, object] | None:
    message = answer[0].message if answer and isinstance(answer[0], ChatGeneration) else None
    found = message.response_metadata.get(MARKER) if isinstance(message, AIMessage) else None
    return {"hit": True, "key": found["key"]} if found else None
