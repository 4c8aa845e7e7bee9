"""LangChain's documents as blocks of a message, as a layout recognises them."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape

from langchain_core.documents import Document


def document_blocks(documents: Iterable[Document]) -> list[dict[str, str]]:
    """Return a block of text for each document, to stand in a user's message before the question.

    Text and, where its metadata has them, ``title`` and ``source`` are written in the tags that Claude's documentation
    recommends (*Long context prompting tips*), without a number: a document is the same block wherever it stands, so
    that at level ``arrange`` a layout can put it where the provider's cache has it, and leave out copies.
    """
    return [{"type": "text", "text": _tagged(document)} for document in documents]


def _tagged(document: Document) -> str:
    named = ((name, document.metadata.get(name)) for name in ("title", "source"))
    tags = "".join(f"<{name}>{escape(str(value))}</{name}>\n" for name, value in named if value)
    return f"<document>\n{tags}<document_content>\n{document.page_content}\n</document_content>\n</document>"
