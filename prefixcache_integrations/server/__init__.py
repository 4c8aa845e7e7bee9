"""Floor 7: the simulator's loopback HTTP server, which the real SDKs talk to.

::

    from prefixcache_integrations.server import Reply, Simulator, script

    with Simulator(model=script([Reply(text="Hello")])) as simulator:
        client = anthropic.Anthropic(base_url=simulator.base_url("anthropic"), api_key="any")
        client.messages.create(...)
        print(simulator.calls[-1].usage)

What it does not model: routing between machines, eviction under load, tokens the provider adds and hides, rate
limits, context windows, the server's own tools, more than one choice (``n``), truncation at ``max_tokens``, OpenAI's
``prewarm``, and stored conversations (``previous_response_id``).
"""

from importlib.util import find_spec

from prefixcache_integrations.errors import ConfigurationError

for _module in ("starlette", "uvicorn"):
    if find_spec(_module) is None:
        raise ConfigurationError(f"the simulator needs {_module}: pip install 'prefixcache-integrations[server]'")

from prefixcache_integrations.server.calls import Call  # noqa: E402 - after the check for the extra
from prefixcache_integrations.server.clock import SimulatorClock  # noqa: E402 - after the check for the extra
from prefixcache_integrations.server.models import Model, Reply, ToolUse, echo, script  # noqa: E402 - after the check for the extra
from prefixcache_integrations.server.simulator import Simulator  # noqa: E402 - after the check for the extra

__all__ = ["Call", "Model", "Reply", "Simulator", "SimulatorClock", "ToolUse", "echo", "script"]
