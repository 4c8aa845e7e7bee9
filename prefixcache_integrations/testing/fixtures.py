"""The pytest fixtures; importing this module needs pytest and the extra ``server``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from prefixcache_integrations.server import Simulator


@pytest.fixture
def prompt_cache_simulator() -> Iterator[Simulator]:
    """Serve a fresh simulator whose model echoes and whose clock stands still, for one test."""
    with Simulator() as simulator:
        yield simulator
