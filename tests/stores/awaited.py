"""Awaiting faces: of a store behind blocking methods, so that the one contract holds both; and of one that blocks."""

import asyncio
import threading

from prefixcache_integrations.stores.wrapper import Wrapper


class Waiting(Wrapper):
    """A store that is to be awaited, as those on servers are, whatever is inside."""

    waits = True


class Awaited:
    """Calls ``store.aget`` for ``get`` and so on, from any thread, on an event loop in a thread of its own."""

    def __init__(self, store):
        self._store = store
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def __getattr__(self, name):
        method = getattr(self._store, f"a{name}")
        return lambda *arguments, **keywords: asyncio.run_coroutine_threadsafe(
            method(*arguments, **keywords), self._loop
        ).result(10)

    def stop(self):
        asyncio.run_coroutine_threadsafe(self._store.aclose(), self._loop).result(10)
        asyncio.run_coroutine_threadsafe(self._loop.shutdown_asyncgens(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
