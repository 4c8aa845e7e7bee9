"""The simulator as people use it: a context manager that serves the providers on a loopback port."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import uvicorn

from prefixcache_integrations import tokens
from prefixcache_integrations.canonical import Tokenizer
from prefixcache_integrations.errors import ConfigurationError
from prefixcache_integrations.insight.simulator import CacheSettings
from prefixcache_integrations.server.app import Pace, application
from prefixcache_integrations.server.calls import Call
from prefixcache_integrations.server.clock import SimulatorClock
from prefixcache_integrations.server.faces import ProviderName
from prefixcache_integrations.server.models import Model, echo
from prefixcache_integrations.server.provider import Provider

_STARTUP_SECONDS = 10
_SHUTDOWN_SECONDS = 5


class Simulator:
    """Serves Anthropic Messages, OpenAI Chat Completions and Responses, and Azure OpenAI, each with its prompt cache.

    ``model`` answers (`echo` by default); it is called from several threads. ``tokenizer`` counts; by default the
    best one at hand, and where that is an estimate, so are the counts. ``port`` 0 takes a free one. ``clock`` stands
    still unless it is told otherwise. ``deployments`` maps Azure deployment names to models, ``organisations`` API keys
    to whoever shares a cache. ``pace`` slows answers down. Raises `ConfigurationError` for a host that is not loopback.
    """

    def __init__(
        self,
        *,
        model: Model = echo,
        tokenizer: Tokenizer | None = None,
        clock: SimulatorClock | None = None,
        settings: CacheSettings | None = None,
        deployments: Mapping[str, str] | None = None,
        organisations: Mapping[str, str] | None = None,
        pace: Pace | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        if not _is_loopback(host):
            raise ConfigurationError(f"the simulator serves loopback addresses only, not {host}")
        self.tokenizer = tokenizer or tokens.load()
        self.clock = clock or SimulatorClock()
        self._provider = Provider(
            model=model,
            tokenizer=self.tokenizer,
            clock=self.clock,
            settings=settings,
            deployments=deployments,
            organisations=organisations,
        )
        self._app = application(self._provider, self.clock, pace or Pace())
        self._address = (host, port)
        self._running: _Running | None = None

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call answered so far, in the order in which they arrived."""
        return self._provider.calls

    def reset(self) -> None:
        """Forget the calls and the cache; ids and the clock go on."""
        self._provider.reset()

    def base_url(self, provider: ProviderName) -> str:
        """Return what the provider's SDK takes as its base URL (Azure: its endpoint); raises if it is not running."""
        if self._running is None:
            raise ConfigurationError("the simulator is not running: use it in a with statement")
        return self._running.url + _SUFFIXES[provider]

    def start(self) -> Self:
        """Begin to serve; returns once connections are accepted. Raises `OSError` where the port is taken."""
        if self._running is None:
            self._running = _Running(self._app, *self._address)
        return self

    def stop(self) -> None:
        """Stop serving; answers under way are cut off. A stopped simulator can be started again."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class _Running:
    """A server on a thread of its own."""

    def __init__(self, app: object, host: str, port: int) -> None:
        listening = _listen(host, port)
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{listening.getsockname()[1]}"
        config = uvicorn.Config(
            app,  # type: ignore[arg-type] # uvicorn's own protocol types are narrower than Starlette's
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="prompt-cache-simulator", daemon=True
        )
        self._thread.start()
        self._wait_until_started()

    def _wait_until_started(self) -> None:
        waiting = threading.Event()
        for _ in range(_STARTUP_SECONDS * 200):
            if self._server.started or not self._thread.is_alive():
                break
            waiting.wait(0.005)
        if not self._server.started:
            raise ConfigurationError("the simulator's server did not start")

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(_SHUTDOWN_SECONDS)


def _listen(host: str, port: int) -> socket.socket:
    """Open a socket that says it is TCP: only then does asyncio send small answers without delay."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    return listening


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_SUFFIXES: Mapping[ProviderName, str] = {"anthropic": "", "openai": "/v1", "azure": ""}
