"""What every store must do, as a test class: subclass it and give the fixtures ``store`` and ``small_store``."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from prefixcache_integrations.flows.op import EntryKey

SMALL = 200_000
"""The bound in bytes of ``small_store``."""

KEY = EntryKey("tenant", "digest")


class Clock:
    """Seconds that pass when told to."""

    def __init__(self, now=1_000_000.0):
        self.now = now

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds


class StoreContract:
    """Clauses of `prefixcache_integrations.stores.Store`."""

    @pytest.fixture
    def clock(self):
        return Clock()

    @pytest.fixture
    def store(self, clock):
        """Return an empty store that reads ``clock``."""
        raise NotImplementedError

    @pytest.fixture
    def small_store(self, clock):
        """Return an empty store that holds `SMALL` bytes."""
        raise NotImplementedError

    def test_a_key_never_put_has_no_value(self, store):
        assert store.get(KEY) is None

    @pytest.mark.parametrize("value", [b"", b"answer", bytes(range(256)) * 4096], ids=["empty", "short", "1 MiB"])
    def test_what_was_put_is_read(self, store, value):
        assert store.put(KEY, value) is True
        assert store.get(KEY) == value

    def test_what_was_put_last_is_read(self, store):
        store.put(KEY, b"first")
        store.put(KEY, b"second")
        assert store.get(KEY) == b"second"

    def test_a_deleted_key_has_no_value_and_deleting_it_again_does_nothing(self, store):
        store.put(KEY, b"answer")
        store.delete(KEY)
        store.delete(KEY)
        assert store.get(KEY) is None

    def test_a_digest_means_nothing_in_another_namespace(self, store):
        store.put(EntryKey("a", "digest"), b"of a")
        assert store.get(EntryKey("b", "digest")) is None
        store.put(EntryKey("b", "digest"), b"of b")
        store.delete(EntryKey("b", "digest"))
        assert store.get(EntryKey("a", "digest")) == b"of a"

    def test_namespace_and_digest_do_not_run_into_each_other(self, store):
        store.put(EntryKey("ab", "c"), b"answer")
        assert store.get(EntryKey("a", "bc")) is None
        assert store.get(EntryKey("", "abc")) is None

    @pytest.mark.parametrize("namespace", ["", "a", "a:", "a%", "_", "*", "[a-z]", "é", "A"])
    def test_clear_empties_exactly_one_namespace(self, store, namespace):
        others = ["", "a", "a:", "a:b", "a%", "ab", "b", "_", "*", "[a-z]", "é", "A"]
        for name in others:
            store.put(EntryKey(name, "digest"), name.encode())
        store.clear(namespace)
        left = [name for name in others if store.get(EntryKey(name, "digest")) is not None]
        assert left == [name for name in others if name != namespace]

    def test_a_tag_invalidates_what_was_put_with_it_in_its_namespace_and_nothing_else(self, store):
        first, second, plain = (EntryKey("tenant", name) for name in ("first", "second", "plain"))
        elsewhere = EntryKey("elsewhere", "first")
        store.put(first, b"first", tags=("blue", "green"))
        store.put(second, b"second", tags=["blue-green"])
        store.put(plain, b"plain")
        store.put(elsewhere, b"elsewhere", 60, ("green",))
        store.invalidate("tenant", "green")
        assert [store.get(key) for key in (first, second, plain, elsewhere)] == [
            None,
            b"second",
            b"plain",
            b"elsewhere",
        ]

    def test_what_is_put_after_an_invalidation_is_read_and_can_be_invalidated_again(self, store):
        for value in (b"first", b"second"):
            store.put(KEY, value, tags=('with "quotes", é',))
            assert store.get(KEY) == value
            store.invalidate("tenant", 'with "quotes", é')
            assert store.get(KEY) is None

    def test_putting_again_sets_the_tags_anew(self, store):
        store.put(KEY, b"first", tags=("old",))
        store.put(KEY, b"second", tags=("new",))
        store.invalidate("tenant", "old")
        assert store.get(KEY) == b"second"

    def test_invalidating_what_is_not_there_does_nothing(self, store):
        store.invalidate("tenant", "tag")
        store.put(KEY, b"answer", tags=("other",))
        store.invalidate("tenant", "tag")
        assert store.get(KEY) == b"answer"

    def test_what_is_known_of_entries_is_theirs_and_names_them(self, store):
        store.put(EntryKey("tenant", "first"), b"first", tags=("blue", "model:gpt-4o"))
        store.put(EntryKey("tenant", "second"), b"x" * 900, 1000)
        store.put(EntryKey("elsewhere", "third"), b"third", tags=("blue",))
        small, large = sorted(store.facts("tenant"), key=lambda entry: entry.age if "blue" in entry.tags else 99)
        assert (small.namespace, large.namespace, small.size < 200) == ("tenant", "tenant", True)
        assert all(0 <= entry.age < 60 for entry in (small, large))
        assert ("blue" in small.tags, "green" in small.tags, "blue" in large.tags) == (True, False, False)
        assert (small.answered_by("gpt-4o"), large.answered_by("gpt-4o")) == (True, False)
        store.discard("elsewhere", [small.handle])
        store.discard("tenant", [large.handle])
        assert store.get(EntryKey("tenant", "first")) == b"first"
        assert store.get(EntryKey("tenant", "second")) is None
        assert store.get(EntryKey("elsewhere", "third")) == b"third"
        store.discard("tenant", [])
        assert list(store.facts("nowhere")) == []

    def test_nothing_is_known_of_what_has_gone(self, store, clock):
        store.put(KEY, b"answer", 10, ("tag",))
        store.put(EntryKey("tenant", "other"), b"answer", tags=("tag",))
        store.invalidate("tenant", "tag")
        store.put(KEY, b"answer", 10)
        clock.advance(11)
        assert list(store.facts("tenant")) == []

    def test_a_value_lives_until_its_ttl_and_no_longer(self, store, clock):
        store.put(KEY, b"answer", 10)
        clock.advance(9)
        assert store.get(KEY) == b"answer"
        clock.advance(2)
        assert store.get(KEY) is None

    def test_a_value_without_a_ttl_outlives_every_other(self, store, clock):
        store.put(KEY, b"answer")
        clock.advance(10**9)
        assert store.get(KEY) == b"answer"

    def test_putting_again_sets_the_ttl_anew(self, store, clock):
        store.put(KEY, b"first", 10)
        clock.advance(9)
        store.put(KEY, b"second", 10)
        clock.advance(9)
        assert store.get(KEY) == b"second"
        store.put(KEY, b"third")
        clock.advance(100)
        assert store.get(KEY) == b"third"

    def test_a_full_store_keeps_the_newest_and_holds_its_bound(self, small_store):
        keys = [EntryKey("tenant", f"digest {number}") for number in range(100)]
        for key in keys:
            assert small_store.put(key, bytes(10_000)) is True
            assert small_store.get(key) == bytes(10_000)
        kept = [key for key in keys if small_store.get(key) is not None]
        assert 5 <= len(kept) <= SMALL // 10_000
        assert kept == keys[-len(kept) :]

    def test_a_value_larger_than_the_store_is_refused_and_pushes_nothing_out(self, small_store):
        other = EntryKey("tenant", "other")
        small_store.put(other, b"other")
        small_store.put(KEY, b"older answer")
        assert small_store.put(KEY, bytes(SMALL + 1)) is False
        assert small_store.get(KEY) is None
        assert small_store.get(other) == b"other"

    def test_many_threads_share_it(self, store):
        keys = [EntryKey("tenant", f"digest {number}") for number in range(5)]

        def work(worker):
            for turn in range(40):
                key = keys[(worker + turn) % len(keys)]
                store.put(key, key.digest.encode() * (turn + 1), 60)
                value = store.get(key)
                assert value is None or value.startswith(key.digest.encode())
                if turn % 7 == 0:
                    store.delete(key)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))

    def test_it_does_what_a_dict_does(self, store):
        dice, model = random.Random(1), {}  # noqa: S311 - repeatable on purpose
        keys = [EntryKey(namespace, digest) for namespace in ("", "a", "b") for digest in ("x", "y")]
        for _ in range(500):
            key, value = dice.choice(keys), dice.randbytes(dice.randrange(20))
            match dice.choices(["put", "delete", "clear"], [6, 3, 1])[0]:
                case "put":
                    store.put(key, value)
                    model[key] = value
                case "delete":
                    store.delete(key)
                    model.pop(key, None)
                case "clear":
                    store.clear(key.namespace)
                    model = {other: kept for other, kept in model.items() if other.namespace != key.namespace}
            assert {key: found for key in keys if (found := store.get(key)) is not None} == model

    def test_closing_twice_is_closing_once(self, store):
        store.put(KEY, b"answer")
        store.close()
        store.close()
