"""What a real tracer of LangSmith sends of hits, to a server of our own."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tracers import LangChainTracer
from langsmith import Client

from prefixcache_integrations.langchain import ResponseCache, with_response_cache
from prefixcache_integrations.stores import MemoryStore


@pytest.fixture
def traces(monkeypatch):
    """A tracer, and the latest that its server was told of each run, oldest first."""
    runs = {}

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if self.command in ("POST", "PATCH") and self.path.startswith("/runs"):
                run = json.loads(body)
                runs[run["id"]] = run
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST = do_PATCH = answer  # noqa: N815 - the base class's names

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    client = Client(api_url=url, api_key="none", auto_batch_tracing=False, info={})
    yield LangChainTracer(client=client, project_name="tests"), runs
    client.close()
    server.shutdown()
    thread.join()
    server.server_close()


async def ainvoke(model, config):
    await model.ainvoke([HumanMessage("Hello")], config)


async def astream(model, config):
    async for _ in model.astream([HumanMessage("Hello")], config):
        pass


STYLES = {
    "invoke": lambda model, config: model.invoke([HumanMessage("Hello")], config),
    "stream": lambda model, config: list(model.stream([HumanMessage("Hello")], config)),
    "ainvoke": ainvoke,
    "astream": astream,
}
VIEWED = {"view": ["invoke", "stream", "ainvoke", "astream"], "global": ["invoke", "ainvoke"]}


@pytest.mark.parametrize(("kind", "style"), [(kind, style) for kind, styles in VIEWED.items() for style in styles])
async def test_the_metadata_of_a_run_says_that_it_was_a_hit(models, traces, kind, style):
    tracer, runs = traces
    cache = ResponseCache(MemoryStore())
    model = models.claude(cache=cache) if kind == "global" else with_response_cache(models.claude(), cache)
    for _ in range(2):
        done = STYLES[style](model, {"callbacks": [tracer], "metadata": {"app": "shop"}})
        if hasattr(done, "__await__"):
            await done
    tracer.wait_for_futures()

    miss, hit = [run["extra"]["metadata"] for run in runs.values()]
    assert "prefixcache" not in miss
    assert hit["prefixcache"].keys() == {"hit", "key"}
    assert hit["prefixcache"]["hit"] is True
    assert {miss["app"], hit["app"]} == {"shop"}
    assert miss["usage_metadata"]["input_tokens"] > 0
    assert hit["usage_metadata"]["input_tokens"] == 0
