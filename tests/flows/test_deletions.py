"""What counts as deleted since it was asked for."""

import pytest

from prefixcache_integrations.flows.deletions import MOST_REMEMBERED, Deletions


def test_what_was_asked_before_a_deletion_is_outdated_and_nothing_else():
    deletions = Deletions()
    deletions.note(5, "tenant", None)
    assert deletions.since(4, "tenant", ())
    assert not deletions.since(6, "tenant", ())
    assert not deletions.since(4, "another", ())


@pytest.mark.parametrize(("tags", "outdated"), [((), False), (("b",), False), (("b", "a"), True)])
def test_a_tag_outdates_what_carries_it(tags, outdated):
    deletions = Deletions()
    deletions.note(5, "tenant", "a")
    assert deletions.since(4, "tenant", tags) is outdated


def test_the_last_deletion_counts():
    deletions = Deletions()
    for number in (1, 5):
        deletions.note(number, "tenant", None)
    assert deletions.since(3, "tenant", ())


def test_what_is_no_longer_remembered_outdates_all_that_was_asked_before_it():
    deletions = Deletions()
    for number in range(1, MOST_REMEMBERED + 3):
        deletions.note(number, "tenant", f"tag {number}")
    assert deletions.since(1, "another", ())
    assert not deletions.since(2, "another", ())
