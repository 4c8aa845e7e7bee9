"""An application that answers questions from looked up passages, made up: what it sent long ago, and what it asks."""

from __future__ import annotations

import gc
import random
from collections.abc import Sequence
from itertools import accumulate

from prefixcache_integrations.canonical import Message, Part, Request, Tokenizer
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.classes import Likeness
from prefixcache_integrations.prompt.lookups import Document
from prefixcache_integrations.prompt.reading import NOTHING_READ, Begun, read
from prefixcache_integrations.prompt.stability import PromptMemory, Sighting
from prefixcache_integrations.prompt.steps import Step

TOPICS, PASSAGES, STRAY = 100, 40, 0.2
"""How many topics there are, of how many passages each; which share of what is looked up is of another topic."""

_PASSAGE = "Lamps of model {passage} in topic {topic} are taken back within {passage} days if the seal is whole. "

_PASSAGES_LIKE = Likeness("document", after_documents=True, surprise=3, support=1)
_QUESTION_LIKE = Likeness("turn", after_documents=True, surprise=3, support=1, last=True)


class Searches:
    """Questions of ``looked_up`` passages each, some topics and passages asked for far more often than others."""

    def __init__(self, looked_up: int) -> None:
        self._looked_up = looked_up
        self._random = random.Random(looked_up)
        self._parts = [[_part(topic, passage) for passage in range(PASSAGES)] for topic in range(TOPICS)]
        self._topics, self._passages = _popularity(TOPICS), _popularity(PASSAGES)
        self.sent = 0

    def ask(self) -> Request:
        """Return the next question."""
        return self._request(self._found())

    def grow(self, memory: PromptMemory, requests: int, profile: CacheProfile, tokenizer: Tokenizer) -> None:
        """Let ``memory`` have seen so many questions, each with the passages of its topic in front, in one order."""
        every = [(topic, passage) for topic in range(TOPICS) for passage in range(PASSAGES)]
        begun = Begun(NOTHING_READ, ())
        system, *pieces = read(self._request(every), profile, tokenizer, begun).pieces
        rows = list(zip(every, pieces[: len(every)], strict=True))
        steps = {each: Step(piece.key, _PASSAGES_LIKE) for each, piece in rows}
        tokens = {piece.key: piece.tokens for piece in pieces}
        while self.sent < requests:
            found = self._found()
            often = [topic for topic, _ in found]
            documents = [steps[each] for each in sorted(found, key=lambda each: (-often.count(each[0]), each))]
            own = Step(self.sent.to_bytes(16, "big"), _QUESTION_LIKE)
            known = {step.key: Document(tokens[step.key], 2) for step in documents}
            memory.observe(Sighting((Step(system.key, Likeness("static")), *documents, own), known), 0.0)
            self.sent += 1
        gc.collect()

    def _found(self) -> list[tuple[int, int]]:
        """Return the passages of a question by topic and number, the best first as a search has them."""
        [topic] = self._random.choices(range(TOPICS), cum_weights=self._topics)
        found = dict[tuple[int, int], None]()
        while len(found) < self._looked_up:
            stray = self._random.random() < STRAY
            of = self._random.randrange(TOPICS) if stray else topic
            [passage] = self._random.choices(range(PASSAGES), cum_weights=self._passages)
            found[of, passage] = None
        return list(found)

    def _request(self, found: Sequence[tuple[int, int]]) -> Request:
        question = f"How long are lamps taken back, asks number {self._random.random()}?"
        asked = Part(kind="text", raw={"type": "text", "text": question}, text=question, markable=True)
        parts = (*(self._parts[topic][passage] for topic, passage in found), asked)
        rule = "You answer from the passages alone."
        return Request(
            dialect="anthropic_messages",
            model="claude-sonnet-4-5",
            system=(Part(kind="text", raw={"type": "text", "text": rule}, text=rule, markable=True),),
            messages=(Message(role="user", parts=parts),),
        )


def _part(topic: int, passage: int) -> Part:
    source = {"type": "text", "media_type": "text/plain", "data": _PASSAGE.format(topic=topic, passage=passage) * 8}
    return Part(kind="document", raw={"type": "document", "source": source}, markable=True)


def _popularity(count: int) -> list[float]:
    """Return cumulated weights: the second is asked for half as often as the first, the third a third (Zipf's law)."""
    return list(accumulate(1 / (rank + 1) for rank in range(count)))
