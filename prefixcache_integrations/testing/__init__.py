"""For the tests of an app: the simulator as a pytest fixture, and what to assert about its prompt cache.

The fixture is asked for in the app's top-level ``conftest.py``; nothing is registered behind its back::

    pytest_plugins = ["prefixcache_integrations.testing.fixtures"]

Then a test reads::

    def test_second_turn_is_cached(prompt_cache_simulator):
        app = build_app(base_url=prompt_cache_simulator.base_url("openai"))
        app.ask("…")
        app.ask("…")
        first, second = prompt_cache_simulator.calls
        assert_reads(second, at_least=0.9)
        assert_extends(first, second)
"""

from prefixcache_integrations.testing.assertions import assert_extends, assert_prefix_kept, assert_reads

__all__ = ["assert_extends", "assert_prefix_kept", "assert_reads"]
