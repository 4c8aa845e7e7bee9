"""Retrieved nodes in an order that does not depend on chance, and in packs that do not depend on the question."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, Literal, TypeAlias
from uuid import UUID

from llama_index.core.indices.prompt_helper import DEFAULT_PADDING, PromptHelper
from llama_index.core.llms import LLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.schema import BaseNode, MediaResource, MetadataMode, NodeWithScore, QueryBundle, TextNode
from llama_index.core.tools.types import BaseTool
from pydantic import Field, PrivateAttr

from prefixcache_integrations.events import DuplicatesDropped
from prefixcache_integrations.llama_index.events import dispatch

NodeOrder: TypeAlias = Literal["document", "sticky", "cache_aware"]
"""``document``: as they stand in the documents, these by their names. ``sticky``: nodes retrieved before keep the
order in which they first came, new ones follow. ``cache_aware``: the nodes that begin as an earlier selection did come
first, as many as there are; the others as they stand in the documents."""


class StableOrderPostprocessor(BaseNodePostprocessor):
    """Puts retrieved nodes in an order that a provider's prompt cache finds again, each content once.

    Retrievers order by score, and nodes of one score by random ids. Make it the last of ``node_postprocessors``; of
    nodes with the same content (text, pictures and all else) the best one stays, and LlamaIndex's dispatcher is told.
    It gives up the ranking: models heed what comes first and last.
    ``sticky`` and ``cache_aware`` remember the latest ``memory`` nodes or selections of this object: give each
    conversation its own, or let conversations over the same documents share one. Safe to share between threads.
    """

    order: NodeOrder = "document"
    memory: int = Field(default=1000, gt=0)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)
    _seen: OrderedDict[str, int] = PrivateAttr(default_factory=OrderedDict)
    _selections: OrderedDict[tuple[str, ...], None] = PrivateAttr(default_factory=OrderedDict)

    @classmethod
    def class_name(cls) -> str:
        """Return the name LlamaIndex knows this class by."""
        return "StableOrderPostprocessor"

    def _postprocess_nodes(
        self,
        nodes: list[NodeWithScore],
        query_bundle: QueryBundle | None = None,  # noqa: ARG002 - that the question does not count is the point
    ) -> list[NodeWithScore]:
        ranked = sorted(nodes, key=lambda node: -(node.score or 0.0))
        by_text: dict[str, NodeWithScore] = {}
        for node in ranked:
            by_text.setdefault(_digest(node.node), node)
        if dropped := len(nodes) - len(by_text):
            dispatch(DuplicatesDropped(count=dropped))
        ordered = sorted(by_text, key=lambda text: (*_place(by_text[text].node), text))
        with self._lock:
            return [by_text[text] for text in self._remembered(ordered)]

    def _remembered(self, texts: Sequence[str]) -> Sequence[str]:
        match self.order:
            case "document":
                return texts
            case "sticky":
                return self._as_first_seen(texts)
            case "cache_aware":
                return self._extending(texts)

    def _as_first_seen(self, texts: Sequence[str]) -> Sequence[str]:
        last = next(reversed(self._seen.values()), -1)
        for place, text in enumerate((text for text in texts if text not in self._seen), start=last + 1):
            self._seen[text] = place
        ordered = sorted(texts, key=self._seen.__getitem__)
        _bound(self._seen, self.memory)
        return ordered

    def _extending(self, texts: Sequence[str]) -> Sequence[str]:
        wanted = set(texts)
        starts = (tuple(takewhile(wanted.__contains__, selection)) for selection in reversed(self._selections))
        start = max(starts, key=len, default=())
        ordered = (*start, *(text for text in texts if text not in start))
        self._selections[ordered] = None
        self._selections.move_to_end(ordered)
        _bound(self._selections, self.memory)
        return ordered


class StablePromptHelper(PromptHelper):
    """Packs retrieved text into prompts alike for every question of up to ``question_tokens`` tokens.

    LlamaIndex's own helper leaves as much room as the question at hand needs, so that another question moves every cut
    and no prompt begins as an earlier one did. Set it as ``Settings.prompt_helper``.
    """

    question_tokens: int = Field(default=256, gt=0)

    def __init__(self, *, question_tokens: int = 256, **settings: Any) -> None:  # noqa: ANN401 - those of PromptHelper
        super().__init__(**settings)
        self.question_tokens = question_tokens

    @classmethod
    def class_name(cls) -> str:
        """Return the name LlamaIndex knows this class by."""
        return "StablePromptHelper"

    def _get_available_chunk_size(
        self,
        prompt: BasePromptTemplate,
        num_chunks: int = 1,
        padding: int = DEFAULT_PADDING,
        llm: LLM | None = None,
        tools: list[BaseTool] | None = None,
    ) -> int:
        question = _question(prompt)
        if question is not None and self._token_counter.get_string_tokens(question) <= self.question_tokens:
            prompt, padding = prompt.partial_format(query_str=""), padding + self.question_tokens
        return super()._get_available_chunk_size(prompt, num_chunks, padding, llm, tools)


def _question(prompt: BasePromptTemplate) -> str | None:
    kwargs: Mapping[str, object] = prompt.kwargs
    question = kwargs.get("query_str")
    return question if isinstance(question, str) else None


# Of what a node is, apart from content that is not text: its names and places, and its text, which is compared as it
# is told to the LLM.
_NO_CONTENT = {
    "class_name", "embedding", "end_char_idx", "excluded_embed_metadata_keys", "excluded_llm_metadata_keys", "id_",
    "metadata", "metadata_separator", "metadata_seperator", "metadata_template", "mimetype", "relationships",
    "start_char_idx", "text", "text_embedding", "text_resource", "text_template",
}  # fmt: skip


def _digest(node: BaseNode) -> str:
    """Return what is the same for nodes with the same content: text, pictures and all else."""
    told = node.get_content(MetadataMode.LLM)
    others = "" if type(node) is TextNode else _other_content(node)
    return hashlib.sha256(f"{len(told)} {told}{others}".encode("utf-8", "surrogatepass")).hexdigest()


def _other_content(node: BaseNode) -> str:
    """Return the content of ``node`` beside its text; its id where that cannot be written down: then it has no copy."""
    values = {name: value for name in type(node).model_fields if (value := getattr(node, name)) is not None}
    # Their dumps leave data out.
    media = {name: value.hash for name, value in values.items() if isinstance(value, MediaResource)}
    try:
        written = node.model_dump(mode="json", exclude=_NO_CONTENT | media.keys())
    except Exception:  # noqa: BLE001 - a node may hold any object of the app's
        return node.node_id
    content = {name: value for name, value in {**written, **media}.items() if value and name not in _NO_CONTENT}
    return json.dumps(content, sort_keys=True) if content else ""


def _place(node: BaseNode) -> tuple[str, int]:
    """Return which document ``node`` is of, and where it stands there; a random id says nothing."""
    name = node.ref_doc_id or ""
    start = getattr(node, "start_char_idx", None)
    return ("" if _is_random(name) else name), start if isinstance(start, int) else 0


def _is_random(name: str) -> bool:
    try:
        UUID(name)
    except ValueError:
        return False
    return True


def _bound(memory: OrderedDict[Any, Any], size: int) -> None:
    while len(memory) > size:
        memory.popitem(last=False)
