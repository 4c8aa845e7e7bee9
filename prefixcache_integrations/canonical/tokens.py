"""What floors below the I/O ask of a tokeniser; `prefixcache_integrations.tokens` has the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Tokenizer(Protocol):
    """Turns text into tokens. ``exact`` is false for an estimate: then counts are labelled as such."""

    @property
    def name(self) -> str:
        """The encoding's name, such as ``o200k_base``, or ``estimate``."""
        ...

    @property
    def exact(self) -> bool:
        """Whether the tokens are those of a published encoding."""
        ...

    def encode(self, text: str) -> Sequence[int]:
        """Return the token ids of ``text``; special-token text is read as ordinary text."""
        ...

    def count(self, text: str) -> int:
        """Return ``len(self.encode(text))``; may be memoised."""
        ...
