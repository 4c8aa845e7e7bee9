"""Tracers and counters that others write, beside an enabled LLM and the handler of this package."""

import pytest
from llama_index.core import get_response_synthesizer
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import ChatMessage
from llama_index.core.schema import NodeWithScore, TextNode
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from prefixcache_integrations.llama_index import CachedTokensEventHandler, enable

ASK = [ChatMessage(role="system", content="The handbook says: " + "lamps come back within thirty days. " * 200)]
ASK += [ChatMessage(content="How long for lamps?")]
NODES = [NodeWithScore(node=TextNode(text="Lamps come back within thirty days."), score=1.0)]
PROVIDERS = ("openai", "claude", "responses")

CALLS = {
    "chat": lambda llm: llm.chat(ASK),
    "stream_chat": lambda llm: list(llm.stream_chat(ASK)),
    "synthesizer": lambda llm: get_response_synthesizer(llm=llm).synthesize("How long?", NODES),
}


@pytest.fixture
def spans(handlers):
    """Trace with openinference, and return the spans that have ended."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = LlamaIndexInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    yield exporter.get_finished_spans
    instrumentor.uninstrument()


@pytest.fixture
def handler(handlers, spans):  # which sets the handlers back
    made = CachedTokensEventHandler()
    handlers(made)
    return made


def names(spans):
    return [span.name for span in spans]


def counts(spans, name):
    return [span.attributes[name] for span in spans if name in span.attributes]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("call", CALLS)
def test_openinference_sees_the_spans_of_plain_llama_index(simulator, llms, spans, provider, call):
    CALLS[call](getattr(llms, provider)())
    plain = names(spans())
    CALLS[call](enable(getattr(llms, provider)(), cache="memory://"))
    assert names(spans())[len(plain) :] == plain
    assert plain


@pytest.mark.parametrize("provider", ["openai", "claude"])
@pytest.mark.parametrize("call", CALLS)
def test_openinference_and_the_handler_count_a_call_alike_and_a_hit_not_at_all(request, llms, spans, provider, call):
    simulator, handler = request.getfixturevalue("simulator"), request.getfixturevalue("handler")
    llm = enable(getattr(llms, provider)(), cache="memory://")
    CALLS[call](llm)
    CALLS[call](llm)
    [billed] = simulator.calls
    assert counts(spans(), "llm.token_count.prompt") == [billed.usage.input_tokens]
    assert counts(spans(), "llm.token_count.completion") == [billed.usage.output_tokens]
    assert [made.outcome for made in handler.calls] == ["provider", "response_cache"]
    assert handler.totals.input_tokens == billed.usage.input_tokens


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_token_counter_counts_calls_and_no_hits(simulator, llms, handler, provider):
    counter = TokenCountingHandler(tokenizer=str.split)
    llm = getattr(llms, provider)()
    llm.callback_manager = CallbackManager([counter])
    enable(llm, cache="memory://")
    for _ in range(2):
        llm.chat(ASK)
    [counted] = counter.llm_token_counts
    [billed] = simulator.calls
    assert counted.completion_token_count == billed.usage.output_tokens
    # Of Claude it counts what was neither read nor written, with or without this package.
    assert counted.prompt_token_count == billed.usage.input_tokens or provider == "claude"
    assert handler.totals.input_tokens == billed.usage.input_tokens
