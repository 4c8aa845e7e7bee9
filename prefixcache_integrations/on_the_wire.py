"""What a call sends, told by whoever lays it out to whoever follows the call, along the call's own context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Protocol

from prefixcache_integrations.canonical import PromptPlan, Request
from prefixcache_integrations.dialects.dialect import BodyFormat
from prefixcache_integrations.events import Observer
from prefixcache_integrations.flows.prepare import MISREAD, Prepared


class Follower(Protocol):
    """A call under way, as someone follows it: its ``observers`` will be told why it missed."""

    @property
    def observers(self) -> Sequence[Observer]:
        """Who is told."""
        ...

    @property
    def ended(self) -> bool:
        """Whether it is no longer under way."""
        ...

    def sent(self, request: Request, plan: PromptPlan | None = None) -> None:
        """Take note of what is on its way."""
        ...


_FOLLOWERS: ContextVar[Mapping[object, Follower]] = ContextVar("prefixcache_integrations.on_the_wire")


def listen(owner: object, call: Follower) -> None:
    """Let ``call`` be told what is sent next in this context, in place of the owner's last one.

    Those that have ended are let go: a context may live long, and have a handler for each request.
    """
    under_way = {each: other for each, other in _FOLLOWERS.get({}).items() if not other.ended}
    _FOLLOWERS.set({**under_way, owner: call})


def follower(owner: object) -> Follower | None:
    """Return the call of ``owner`` that listens in this context, ``None`` without one under way."""
    call = _FOLLOWERS.get({}).get(owner)
    return None if call is None or call.ended else call


def notice(dialect: BodyFormat, prepared: Prepared) -> None:
    """Tell those who listen in this context what is about to be sent; a body that cannot be read is not told."""
    followers = [call for call in _FOLLOWERS.get({}).values() if not call.ended]
    request = _request(dialect, prepared) if followers else None
    if request is None:
        return
    for call in followers:
        call.sent(request, prepared.plan)


def is_told(observer: Observer, *, besides: Follower) -> bool:
    """Say whether another call that is followed in this context will tell ``observer``, too."""
    others = (call for call in _FOLLOWERS.get({}).values() if call is not besides and not call.ended)
    return any(observer == other for call in others for other in call.observers)


def _request(dialect: BodyFormat, prepared: Prepared) -> Request | None:
    if prepared.request is not None:
        return prepared.request
    try:
        return dialect.decode_request(prepared.body)
    except MISREAD:  # it was passed through, which is told already
        return None
