"""The real LlamaIndex integrations over the real SDKs, pointed at one simulator per test module."""

import asyncio
import gc
import hashlib
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from prefixcache_integrations.server import Reply, Simulator, ToolUse

INSTALLED = False
with suppress(ModuleNotFoundError):
    INSTALLED = all(map(find_spec, ("llama_index.llms.openai", "llama_index.llms.anthropic")))
if not INSTALLED:  # they take older SDKs, and have an environment of their own
    collect_ignore_glob = ["test_*.py"]

HERE = Path(__file__).parent
CLAUDE, GPT = "claude-sonnet-4-5", "gpt-4o-mini"
HEADERS = {"Connection": "close"}  # connections that stay open would be warned about, and belong to one loop


def filled(schema):
    """Return values that a JSON schema allows."""
    made = {"string": "a word", "integer": 7, "number": 0.5, "boolean": True, "array": []}
    properties = schema.get("properties", {})
    return {
        name: filled(field) if field.get("type") == "object" else made[field["type"]]
        for name, field in properties.items()
    }


def schema_asked_for(options):
    """Return the JSON schema of the answer, wherever a provider's body has it."""
    places = [
        (options.get("response_format") or {}).get("json_schema", {}).get("schema"),
        (options.get("output_format") or {}).get("schema"),
        ((options.get("output_config") or {}).get("format") or {}).get("schema"),
        ((options.get("text") or {}).get("format") or {}).get("schema"),
    ]
    return next(filter(None, places), None)


def assistant(request):
    """Call every tool once, fill in what a schema asks for, else answer in twenty words that depend on the request."""
    parts = [part for message in request.messages for part in message.parts]
    if schema := schema_asked_for(request.options):
        return Reply(json=filled(schema))
    answered = any(message.role == "tool" for message in request.messages) or any(
        part.kind == "tool_result" for part in parts
    )
    if request.tools and not answered:
        return Reply(text="Let me see.", tool_calls=[ToolUse(tool.name, filled(tool.schema)) for tool in request.tools])
    said = "\n".join(part.text for part in (*request.system, *parts))
    digest = hashlib.sha256(said.encode()).hexdigest()
    words = " ".join(digest[at : at + 3] for at in range(0, 60, 3))
    return Reply(text=f"Thought: I can answer.\nAnswer: {words}" if "Action Input" in said else words)


@pytest.fixture(scope="module")
def server():
    with Simulator(model=assistant) as running:
        yield running


@pytest.fixture
def llms(simulator):
    """Build LLMs that talk to the simulator: ``llms.claude(**settings)`` and so on."""
    from llama_index.llms.anthropic import Anthropic
    from llama_index.llms.openai import OpenAI, OpenAIResponses

    def claude(model=CLAUDE, **settings):
        url = simulator.base_url("anthropic")
        fixed = {"base_url": url, "max_retries": 0, "default_headers": HEADERS}
        return Anthropic(model=model, **{"api_key": "k", **fixed, **settings})

    def openai(model=GPT, kind=OpenAI, **settings):
        url = simulator.base_url("openai")
        fixed = {"api_base": url, "max_retries": 0, "default_headers": HEADERS}
        return kind(model=model, **{"api_key": "k", **fixed, **settings})

    def responses(**settings):
        return openai(kind=OpenAIResponses, **settings)

    return SimpleNamespace(claude=claude, openai=openai, responses=responses)


@pytest.fixture
def handlers():
    """Put event handlers on LlamaIndex's root dispatcher, for one test."""
    from llama_index.core.instrumentation import get_dispatcher

    root = get_dispatcher()
    before = list(root.event_handlers)
    yield root.add_event_handler
    root.event_handlers = before


@pytest.fixture(autouse=True)
def no_global_settings():
    """Leave no LLM, embedding or callbacks behind."""
    from llama_index.core import Settings

    yield
    Settings._llm = Settings._embed_model = Settings._callback_manager = Settings._prompt_helper = None


@pytest.fixture(scope="module", autouse=True)
def collected():
    """Close the event loop that LlamaIndex makes for awaiting and never closes, and collect what it leaves open."""
    yield
    with suppress(RuntimeError):
        asyncio.get_event_loop().close()
    asyncio.set_event_loop(None)
    gc.collect()


def pytest_collection_modifyitems(items):
    """Let LlamaIndex use what Pydantic and others have deprecated, and leave its in-memory databases open."""
    for item in items:
        if item.path.is_relative_to(HERE):
            for ignored in (
                "ignore::DeprecationWarning",
                "ignore::ResourceWarning",
                "ignore::pytest.PytestUnraisableExceptionWarning",
            ):
                item.add_marker(pytest.mark.filterwarnings(ignored))
