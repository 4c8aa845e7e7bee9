"""Tests of lifetimes on servers whose clocks cannot be set."""

import time

from prefixcache_integrations.stores.wrapper import Put, Wrapper

FASTER = 8
"""How many times shorter than a second a second is here: short to wait for, long beside a busy machine's delays."""


class Hurried(Wrapper):
    """Puts values for a fraction of their TTL."""

    def _put(self, key, value, ttl, tags, began):
        return (yield from Put(self._inner, key, value, ttl and ttl / FASTER, tags))


class RealClock:
    """Waits for the same fraction."""

    def advance(self, seconds):
        time.sleep(min(seconds, 12) / FASTER)
