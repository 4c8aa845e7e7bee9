"""One line per outage, however many calls it touches."""

import logging

import pytest

from prefixcache_integrations.events import CacheHit, CacheMiss, EntryStored, StoreDegraded
from prefixcache_integrations.outages import QUIET_SECONDS, OutageLog
from tests.stores.contract import Clock

FAILED = StoreDegraded(operation="get", error="StoreUnavailable")
REFUSED = StoreDegraded(operation="put", error="StoreRefused")
HIT, MISS, STORED = CacheHit(key="k"), CacheMiss(key="k"), EntryStored(key="k", size=1)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(clock):
    return OutageLog(clock)


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


def test_an_outage_is_a_line_at_its_beginning_and_one_at_its_end(log, clock, lines):
    for _ in range(1000):
        for event in (FAILED, MISS, REFUSED):
            log(event)
        clock.advance(3)
    assert lines() == ["The response cache goes on without its store: get failed, StoreUnavailable"]
    clock.advance(QUIET_SECONDS)
    log(STORED)
    log(HIT)
    assert lines()[1:] == ["The response cache's store works again; 2000 operations had failed"]
    log(REFUSED)
    assert len(lines()) == 3


def test_a_store_that_reads_and_refuses_to_write_is_one_outage(log, clock, lines):
    for _ in range(1000):
        log(HIT)
        log(REFUSED)
        clock.advance(1)
    assert len(lines()) == 1


def test_a_store_that_works_is_not_spoken_of(log, lines):
    for event in (HIT, MISS, STORED):
        log(event)
    assert lines() == []
