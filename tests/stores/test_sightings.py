"""What was seen of a shared store's deletions before a call began."""

from prefixcache_integrations.flows.flights import moment
from prefixcache_integrations.stores.sightings import MOST_NAMESPACES, MOST_SEEN, Sightings


def test_what_was_seen_last_before_a_moment_counts():
    sightings, before = Sightings(), moment()
    sightings.note("tenant", "first")
    sightings.note("tenant", "first")
    between = moment()
    sightings.note("tenant", "second")
    after = moment()
    assert [sightings.at("tenant", began) for began in (before, between, after)] == [None, "first", "second"]
    assert sightings.at("tenant", None) is None
    assert sightings.at("another", after) is None


def test_where_there_is_none_for_a_while_the_state_before_counts():
    sightings = Sightings()
    sightings.note("tenant", "first")
    sightings.note("tenant", None)
    began = moment()
    assert sightings.at("tenant", began) == "first"
    assert sightings.last("tenant") is None
    sightings.note("tenant", "second")
    assert sightings.at("tenant", began) == "first"
    assert sightings.last("tenant") == sightings.at("tenant", moment()) == "second"
    assert sightings.last("another") is None


def test_of_what_is_forgotten_something_older_is_seen_never_something_newer():
    sightings, moments = Sightings(), []
    for state in range(3 * MOST_SEEN):
        sightings.note("tenant", state)
        moments.append(moment())
    seen = [sightings.at("tenant", began) for began in moments]
    assert all(found <= state for state, found in enumerate(seen))
    assert seen[-1] == 3 * MOST_SEEN - 1
    assert len(set(seen)) == MOST_SEEN


def test_so_many_namespaces_are_remembered():
    sightings = Sightings()
    for number in range(MOST_NAMESPACES + 1):
        sightings.note(str(number), 0)
    began = moment()
    assert sightings.at("0", began) is None
    assert sightings.at("1", began) == 0
