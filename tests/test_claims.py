import asyncio
import gc
from uuid import uuid4

import pytest
from langchain_core.language_models import FakeListChatModel

from prefixcache_integrations.canonical import Usage
from prefixcache_integrations.langchain.callbacks import CachedTokensHandler
from prefixcache_integrations.metering import Meter


class Seen(list):
    __call__ = list.append


class Silent(FakeListChatModel):
    asked: asyncio.Event

    async def _agenerate(self, *args, **kwargs):
        self.asked.set()
        await asyncio.Event().wait()


def test_a_call_is_told_by_the_first_who_followed_it():
    told = Seen()
    calls = [Meter(observers=[told]).begin(known_as="run") for _ in range(2)]
    for call in calls:
        call.answered(Usage())

    assert len(told) == 1


def test_a_follower_that_went_away_tells_nobody_and_holds_nobody_up():
    told = Seen()
    Meter(observers=[told]).begin(known_as="run")
    gc.collect()
    Meter(observers=[told]).begin(known_as="run").answered(Usage())

    assert len(told) == 1


def test_a_call_that_ends_late_takes_no_claim_from_one_that_goes_by_its_name():
    told = Seen()
    meters = [Meter(observers=[told]) for _ in range(2)]
    ended, late = [meter.begin(known_as="run") for meter in meters]
    ended.answered(Usage())
    first = meters[0].begin(known_as="run")
    late.answered(Usage())
    second = meters[1].begin(known_as="run")
    for call in (first, second):
        call.answered(Usage())

    assert len(told) == 2


@pytest.mark.parametrize("handlers", [1, 2])
async def test_what_was_cancelled_and_asked_again_under_the_same_id_is_counted_twice(handlers):
    told, run_id = Seen(), uuid4()
    callbacks = [CachedTokensHandler(observers=[told], diagnose=bool(number)) for number in range(handlers)]
    config = {"run_id": run_id, "callbacks": callbacks}
    silent = Silent(responses=["a"], asked=asyncio.Event())
    waiting = asyncio.create_task(silent.ainvoke("Hello", config=config))
    await silent.asked.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await FakeListChatModel(responses=["a"]).ainvoke("Hello", config=config)

    assert len(told) == 2
    assert [handler.totals.calls for handler in callbacks] == [2] * handlers
    assert [handler.unfinished for handler in callbacks] == [0] * handlers
