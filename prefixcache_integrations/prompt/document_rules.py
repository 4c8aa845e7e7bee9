"""What an application allows to be done with the documents of its prompts."""

from __future__ import annotations

from msgspec import Struct

from prefixcache_integrations.errors import ConfigurationError


class DocumentRules(Struct, frozen=True, kw_only=True):
    """What may be done at level ``arrange`` with documents that are blocks of their own in a user's message.

    Args:
        move: Whether they may be put in another order, in which more of the prompt is found in the provider's cache.
        keep_top: So many documents of each message stay where the application put them, in front of its others.
        max_distance: How far the new order may be from the application's, as the share of pairs of documents, of any
            one message and of all, that come the other way round (normalised Kendall tau distance, 0 to 1). Where the
            best order is farther away, none moves.
        drop_copies: Whether one that the conversation already has, word for word, is left out the second time.
        ranking_note: Whether a line behind the question says in which order they came, if that was changed; where the
            model takes no such line without harm, none moves.

    Raises `ConfigurationError` for values of other types, below 0, and distances above 1.
    """

    move: bool = True
    keep_top: int = 0
    max_distance: float = 1.0
    drop_copies: bool = True
    ranking_note: bool = False

    def __post_init__(self) -> None:
        for name in ("move", "drop_copies", "ranking_note"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{name} is True or False, not {getattr(self, name)!r}")
        if type(self.keep_top) is not int or self.keep_top < 0:
            raise ConfigurationError(f"keep_top is a number of documents, 0 or more, not {self.keep_top!r}")
        if type(self.max_distance) not in (int, float) or not 0 <= self.max_distance <= 1:
            raise ConfigurationError(f"max_distance is a share of pairs, from 0 to 1, not {self.max_distance!r}")


ANY_ORDER = DocumentRules()
"""Documents may go wherever they pay, and copies of them are left out."""


def checked_rules(documents: DocumentRules) -> DocumentRules:
    """Return ``documents``. Raises `ConfigurationError` for what are no rules."""
    if not isinstance(documents, DocumentRules):
        raise ConfigurationError(f"documents is a DocumentRules, not {documents!r}")
    return documents
