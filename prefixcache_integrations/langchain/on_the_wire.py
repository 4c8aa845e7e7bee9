"""What a call sends, told by whoever lays it out to whoever follows the call, along the call's own context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TypeAlias

from prefixcache_integrations.canonical import PromptPlan, Request
from prefixcache_integrations.dialects import Dialect
from prefixcache_integrations.errors import PrefixCacheError
from prefixcache_integrations.flows.prepare import Prepared

Listener: TypeAlias = Callable[[Request, PromptPlan | None], None]

_LISTENERS: ContextVar[Mapping[object, Listener]] = ContextVar("prefixcache_integrations.on_the_wire")


def listen(follower: object, listener: Listener) -> None:
    """Let ``listener`` be told what the next call in this context sends, in place of the follower's last one."""
    _LISTENERS.set({**_LISTENERS.get({}), follower: listener})


def notice(dialect: Dialect, prepared: Prepared) -> None:
    """Tell the listeners of this context what is about to be sent; a body that cannot be read is not told."""
    listeners = _LISTENERS.get({})
    if not listeners:
        return
    try:
        request = dialect.decode_request(prepared.body)
    except PrefixCacheError:
        return
    for listener in listeners.values():
        listener(request, prepared.plan)
