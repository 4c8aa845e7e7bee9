"""The calls of a process, sorted into conversations.

A session may hold several at once (an agent, its sub-agents, what names the chat), and most applications name none:
then the same opening makes one. A request goes with the one that it follows (`insight.turns`); one that shares nothing
with any begins a conversation of its own.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from itertools import count

from prefixcache_integrations.canonical import Request
from prefixcache_integrations.insight.turns import INSTRUCTIONS, Turn, behind, said

__all__ = ["Conversations", "Turn"]


class Conversations:
    """Remembers the latest requests of each conversation. Not thread-safe: its owner serialises calls.

    ``max_sessions`` bounds how many sessions, or openings where there is none, are remembered; ``max_turns`` how many
    requests of each, ``max_followed`` how many of them that were gone on with, ``max_bytes`` of which size all that
    they say may be, each once; the oldest go first, and ``dropped`` is told each. The latest is kept of whatever size.
    """

    def __init__(
        self,
        *,
        max_sessions: int = 256,
        max_turns: int = 32,
        max_followed: int = 4,
        max_bytes: int = 128 * 1024 * 1024,
        dropped: Callable[[Request], None] = lambda _: None,
    ) -> None:
        self._max_sessions = max_sessions
        self._max_turns = max_turns
        self._max_followed = max_followed
        self._max_bytes = max_bytes
        self._dropped = dropped
        self._bytes = 0
        self._turns: OrderedDict[str, list[Turn]] = OrderedDict()
        self._numbers = count(1)

    def place(self, request: Request, at: float, session: str | None = None, *, instead_of: Turn | None = None) -> Turn:
        """Return ``request`` as a turn behind the one it follows."""
        if instead_of is not None:
            self.withdraw(instead_of)
        key = _key(request, session)
        turns = self._turns_of(key)
        turn, nearest = behind(turns, request, at, session)
        turn.kept_as = key
        if instead_of is not None:
            instead_of.instead = turn
        previous = turn.previous
        if previous is not None:
            turn.conversation, turn.previous_begun = previous.conversation, previous.begun
            turn.before = previous.followed, previous.read_at
            previous.followed, previous.read_at = True, at
        elif nearest is not None:
            turn.conversation = nearest.conversation
        else:
            turn.conversation = self._name(session) if instead_of is None else instead_of.conversation
        turns.append(turn)
        self._bytes += turn.take_over()
        self._forget(turns)
        return turn

    def preview(self, request: Request, at: float, session: str | None = None) -> Turn:
        """Return ``request`` as the turn that `place` would make of it; nothing changes."""
        return behind(self._turns.get(_key(request, session), ()), request, at, session)[0]

    def beside(self, turn: Turn) -> list[Turn]:
        """Return the other turns of the conversation that are remembered, oldest first: those instructed otherwise."""
        kept = self._turns.get(turn.kept_as, ())
        return [
            each for each in kept if each.conversation == turn.conversation and each.instructions != turn.instructions
        ]

    def withdraw(self, turn: Turn) -> None:
        """Take back a turn that was refused: it left nothing for the next one to read."""
        turns = self._turns.get(turn.kept_as, [])
        if turn in turns:
            self._drop(turn, turns)
            if turn.previous is not None and turn.previous.read_at == turn.at:
                turn.previous.followed, turn.previous.read_at = turn.before

    def _forget(self, turns: list[Turn]) -> None:
        followed = [each for each in turns if each.followed]
        if len(followed) > self._max_followed or (followed and len(turns) > self._max_turns):
            self._drop(followed[0], turns)
        elif len(turns) > self._max_turns:
            self._drop(turns[0], turns)
        while self._bytes > self._max_bytes and len(self._turns) > 1:
            self._drop_session()
        while self._bytes > self._max_bytes and len(turns) > 1:
            self._drop(turns[0], turns)

    def _turns_of(self, key: str) -> list[Turn]:
        turns = self._turns.setdefault(key, [])
        self._turns.move_to_end(key)
        if len(self._turns) > self._max_sessions:
            self._drop_session()
        return turns

    def _drop_session(self) -> None:
        """Drop the session that was silent for the longest time."""
        _, turns = self._turns.popitem(last=False)
        while turns:
            self._drop(turns[-1], turns)

    def _drop(self, turn: Turn, turns: list[Turn]) -> None:
        turns.remove(turn)
        self._bytes -= turn.hand_back(turns)
        self._dropped(turn.request)

    def _name(self, session: str | None) -> str:
        number = next(self._numbers)
        return f"conversation {number}" if session is None else f"{session} #{number}"


def _key(request: Request, session: str | None) -> str:
    return f"opening:{_opening(request)}" if session is None else f"session:{session}"


def _opening(request: Request) -> str:
    first = next((message for message in request.messages if message.role not in INSTRUCTIONS), None)
    words = "\0".join(said(first)) if first else ""
    return hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
