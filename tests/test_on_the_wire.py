"""Who follows calls in a context."""

import contextvars
import gc
import weakref

import pytest

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.dialects import ANTHROPIC_MESSAGES
from prefixcache_integrations.metering import Meter
from prefixcache_integrations.on_the_wire import follower, listen
from prefixcache_integrations.tokens import load
from prefixcache_integrations.watching import Watcher


class Owner:
    """A handler, or a layout."""


REQUEST = ANTHROPIC_MESSAGES.decode_request({"model": "m", "messages": [{"role": "user", "content": "hi"}]})


def left(call):
    call.sent(REQUEST)
    call.begun()
    call.left()


ENDINGS = {
    "failed": (Meter().begin, lambda call: call.failed(ValueError())),
    "abandoned": (Meter().begin, lambda call: call.abandoned()),
    "watched": (Watcher([], load()).begin, lambda call: call.answered(Usage())),
    "left": (Watcher([], load()).begin, left),
}


@pytest.mark.parametrize(("begin", "end"), ENDINGS.values(), ids=ENDINGS)
def test_calls_that_have_ended_keep_nobody_in_a_context_that_lives_long(begin, end):
    def work():
        owners = []
        for _ in range(20):
            owner, call = Owner(), begin()
            listen(owner, call)
            assert follower(owner) is call
            end(call)
            assert follower(owner) is None
            owners.append(weakref.ref(owner))
        del owner, call
        gc.collect()
        return sum(each() is not None for each in owners)

    assert contextvars.copy_context().run(work) <= 1


def test_calls_under_way_go_on_being_followed_beside_each_other():
    def work():
        outer, inner = Owner(), Owner()
        calls = Meter().begin(), Meter().begin()
        listen(outer, calls[0])
        listen(inner, calls[1])
        return (follower(outer), follower(inner)) == calls

    assert contextvars.copy_context().run(work)
