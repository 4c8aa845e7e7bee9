"""Results of an agent's tools, kept for the next time that a tool is called with the same arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from langchain.agents.middleware import AgentMiddleware, ToolCallRequest
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool
from langgraph.types import Command
from msgspec.structs import replace
from typing_extensions import override

from prefixcache_integrations.cache import PrefixCache
from prefixcache_integrations.canonical import Part, Response
from prefixcache_integrations.errors import CorruptEntry, MalformedRequest
from prefixcache_integrations.flows.op import Entry
from prefixcache_integrations.flows.response_cache import Terms
from prefixcache_integrations.langchain.asked import Asked
from prefixcache_integrations.langchain.cache import ResponseCache
from prefixcache_integrations.langchain.generations import NotPlain, plain
from prefixcache_integrations.prompt.keys import tool_key

Result = ToolMessage | Command[Any]

CODEC = "langchain-tool-result/1"


class ToolResultCache(AgentMiddleware[Any, Any, Any]):
    """Answers calls of tools that were declared pure from a cache; all other tools are called as ever.

    Two calls share a result if the tool's name, the arguments (in whatever order) and the namespace are the same: other
    tools of one name on one cache need namespaces of their own (`caching`). Identical calls at the same time are made
    once. Errors, commands, and results that cannot be written down in full are not kept, nor are those of a tool that
    LangChain hands state, a store or a runtime: what it returns depends on more than it is asked.

    Args:
        cache: Where results are kept, by URL (`open_store`) or as the cache that models use too.
        tools: The tools whose results depend on nothing but their arguments, for as long as they are kept: names or
            tools, each with its seconds, ``None`` for good; or just a list, kept as long as the cache keeps answers.
    """

    def __init__(
        self,
        cache: ResponseCache | PrefixCache | str,
        tools: Mapping[str, float | None] | Iterable[str | BaseTool],
    ) -> None:
        super().__init__()
        if isinstance(cache, str):
            cache = PrefixCache.from_url(cache)
        self._front = cache.front if isinstance(cache, ResponseCache) else cache
        declared = tools if isinstance(tools, Mapping) else dict.fromkeys(map(_name, tools), self._front.settings.ttl)
        self._asked = {name: self._asking(ttl) for name, ttl in declared.items()}

    @override
    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Result]) -> Result:
        terms = self._terms(request)
        if terms is None:
            return handler(request)
        return self._front.serve_as(terms, lambda: handler(request), _ResultCodec(request)).answer

    @override
    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Result]]
    ) -> Result:
        terms = self._terms(request)
        if terms is None:
            return await handler(request)
        return (await self._front.aserve_as(terms, lambda: handler(request), _ResultCodec(request))).answer

    def _asking(self, ttl: float | None) -> Asked:
        settings = replace(self._front.settings, ttl=ttl)
        return Asked(settings, secret=self._front.secret, require_namespace=self._front.require_namespace)

    def _terms(self, request: ToolCallRequest) -> Terms | None:
        """Return how this call is cached, ``None`` if its tool was not declared pure or cannot be."""
        name, arguments = request.tool_call["name"], request.tool_call["args"]
        asked = self._asked.get(name)
        if asked is None or (request.tool is not None and _is_handed_more(request.tool)):
            return None
        try:
            return asked.terms_by(
                lambda namespace: tool_key(name, arguments, namespace=namespace, secret=self._front.secret)
            )
        except MalformedRequest:
            return None


def _name(tool: str | BaseTool) -> str:
    return tool if isinstance(tool, str) else tool.name


def _is_handed_more(tool: BaseTool) -> bool:
    """Say whether a tool has parameters that the model does not fill in."""
    shown, wanted = (getattr(schema, "model_fields", {}) for schema in (tool.tool_call_schema, tool.get_input_schema()))
    return bool(shown) and bool(wanted.keys() - shown.keys())


class _Record(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    content: str | list[str | dict[str, Any]]
    artifact: Any
    additional_kwargs: dict[str, Any]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Record).decode


class _ResultCodec:
    """Results of one tool call, as `PrefixCache.serve_as` reads and writes them."""

    def __init__(self, request: ToolCallRequest) -> None:
        self._call = request.tool_call

    def read(self, entry: Entry) -> Result:
        if entry.codec != CODEC:
            raise CorruptEntry(f"written as {entry.codec}, not {CODEC}")
        try:
            record = _decode(entry.body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise CorruptEntry("not a tool's result") from error
        return ToolMessage(
            content=record.content,
            artifact=record.artifact,
            additional_kwargs=record.additional_kwargs,
            name=self._call["name"],
            tool_call_id=self._call["id"],
        )

    def write(self, answer: Result) -> Entry | None:
        if not isinstance(answer, ToolMessage):
            return None
        try:
            parts = (plain(part) for part in (answer.content, answer.artifact, answer.additional_kwargs))
            return Entry(codec=CODEC, body=_encode(_Record(*parts)))
        except (NotPlain, RecursionError, UnicodeEncodeError, OverflowError):
            return None

    def responses(self, answer: Result) -> Sequence[Response]:
        """Return a whole answer, however empty, for a result; nothing, which is not kept, for all else."""
        kept = isinstance(answer, ToolMessage) and answer.status == "success"
        said = Response(dialect="openai_chat", id="", model="", parts=(Part(kind="other", raw={}),))
        return [said] if kept else []
