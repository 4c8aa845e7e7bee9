"""What `caching` asks for, block by block."""

import asyncio
import contextvars
import threading

import pytest

from prefixcache_integrations.caching import CacheSettings, Controls, caching, controls_of, current_controls
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.prompt.keys import STRICT, KeyPolicy

DEFAULTS = CacheSettings(ttl=60.0, tags=("app",), namespace="acme")


def settings():
    return current_controls().applied(DEFAULTS)


def test_outside_every_block_a_cache_is_used_as_it_is_set():
    assert settings() == DEFAULTS


def test_a_block_overrides_what_it_names_and_no_more():
    with caching(ttl=None, mode="refresh", tags=["run"]):
        assert settings() == CacheSettings(mode="refresh", ttl=None, tags=("app", "run"), namespace="acme")
    with caching(namespace="other", temperature_tolerance=0.2):
        assert settings().namespace == "other"
        assert settings().policy == KeyPolicy(ordered=False, tolerance=0.2)
    assert settings() == DEFAULTS


def test_the_inner_block_wins_and_tags_add_up():
    with (
        caching(ttl=1, tags="outer", mode="skip"),
        caching(ttl=2, tags=("inner", "outer"), policy=KeyPolicy(exact=True)),
    ):
        found = settings()
    assert (found.ttl, found.mode, found.tags) == (2, "skip", ("app", "outer", "inner"))
    assert found.policy.exact


def test_a_block_that_yields_lets_the_outer_one_win():
    with caching(ttl=1), caching(ttl=2, mode="refresh", yields=True):
        assert (settings().ttl, settings().mode) == (1, "refresh")


def test_a_tolerance_keeps_the_rest_of_the_policy():
    with caching(temperature_tolerance=0.1):
        policy = current_controls().applied(CacheSettings(policy=KeyPolicy(exact=True))).policy
    assert policy == KeyPolicy(exact=True, ordered=False, tolerance=0.1)


def test_a_block_ends_with_an_error_too_and_may_be_entered_again():
    block = caching(ttl=5)
    with pytest.raises(KeyError), block:
        raise KeyError
    assert settings() == DEFAULTS
    with block, block:
        assert settings().ttl == 5
    assert settings() == DEFAULTS


async def test_tasks_see_the_block_they_were_started_in():
    async def later():
        await asyncio.sleep(0)
        return settings().ttl

    async with caching(ttl=7):
        started_inside = asyncio.create_task(later())
    assert await started_inside == 7
    assert await later() == 60.0
    assert settings() == DEFAULTS


async def test_a_block_left_in_another_context_ends_nothing_there():
    async def answers():
        async with caching(namespace="tenant"):
            yield settings().namespace

    stream = answers()
    assert await asyncio.create_task(anext(stream)) == "tenant"
    await stream.aclose()
    assert settings() == DEFAULTS
    with caching(ttl=5):
        assert settings().ttl == 5
    with caching(ttl=5):
        late = answers()
        await asyncio.create_task(anext(late))
        await late.aclose()
        assert settings().ttl == 5


def test_a_generator_whose_steps_run_in_contexts_of_their_own_leaves_the_block_without_harm():
    def answers():
        with caching(namespace="tenant"):
            yield settings().namespace

    stream = answers()
    assert contextvars.copy_context().run(next, stream) == "tenant"
    assert contextvars.copy_context().run(lambda: list(stream) or settings()) == DEFAULTS
    assert settings() == DEFAULTS


def test_blocks_left_out_of_order_end_themselves_alone():
    def tenant(name):
        with caching(namespace=name, tags=[name], ttl=5 if name == "a" else None):
            yield
            yield settings()

    first, second = tenant("a"), tenant("b")
    next(first), next(second), list(first)
    assert next(second) == CacheSettings(ttl=None, tags=("app", "b"), namespace="b")
    assert list(second) == []
    assert settings() == DEFAULTS


def test_no_namespace_names_none_and_crosses_no_boundary():
    with caching(namespace=None):
        assert settings().namespace == "acme"
    with caching(namespace="other"), caching(namespace=None):
        assert settings().namespace == "other"


def test_threads_of_others_do_not_see_it():
    seen = []
    with caching(ttl=7):
        thread = threading.Thread(target=lambda: seen.append(settings().ttl))
        thread.start()
        thread.join()
    assert seen == [60.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "never"},
        {"ttl": 0},
        {"ttl": -1},
        {"ttl": float("nan")},
        {"ttl": "5"},
        {"temperature_tolerance": 2},
        {"temperature_tolerance": "a"},
        {"policy": "loose"},
        {"namespace": 5},
        {"tags": [1]},
        {"tags": 1},
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(wrong):
    with pytest.raises(ConfigurationError):
        caching(**wrong)


@pytest.mark.parametrize(
    ("fields", "controls"),
    [
        ({}, Controls()),
        ({"ttl_seconds": 30}, Controls(ttl=30)),
        ({"ttl_seconds": None}, Controls(ttl=None)),
        ({"strategy": "skip"}, Controls(mode="skip")),
        ({"mode": "only"}, Controls(mode="only")),
        ({"strategy": "strict"}, Controls(policy=STRICT)),
        ({"strategy": "loose"}, Controls(policy=KeyPolicy.loose())),
        ({"temperature_tolerance": 0.2}, Controls(temperature_tolerance=0.2)),
        (
            {"strategy": "refresh", "tags": ["a"], "namespace": "n"},
            Controls(mode="refresh", tags=("a",), namespace="n"),
        ),
    ],
    ids=str,
)
def test_controls_are_read_from_plain_data(fields, controls):
    assert controls_of(fields) == controls


@pytest.mark.parametrize(
    "wrong",
    ["skip", 1, [], {"strategy": "often"}, {"ttl": 3}, {"ttl_seconds": "3"}, {"ttl_seconds": 0}, {"tags": "a"}],
    ids=str,
)
def test_data_that_is_no_control_is_refused(wrong):
    with pytest.raises(ConfigurationError):
        controls_of(wrong)


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), -0.0])
def test_a_ttl_that_cannot_be_meant_is_refused_where_it_is_set(ttl):
    with pytest.raises(ConfigurationError, match="ttl"):
        CacheSettings(ttl=ttl)
    with pytest.raises(ConfigurationError, match="ttl"):
        Controls(ttl=ttl)


@pytest.mark.parametrize("wrong", [{"tags": "abc"}, {"tags": [1]}, {"policy": "loose"}, {"namespace": 5}], ids=str)
def test_settings_that_cannot_be_meant_are_refused_where_they_are_set(wrong):
    with pytest.raises(ConfigurationError):
        CacheSettings(**wrong)


def test_a_mode_that_is_none_is_refused_where_it_is_set():
    with pytest.raises(ConfigurationError, match="mode"):
        CacheSettings(mode="never")
