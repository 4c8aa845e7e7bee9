"""Ask a query engine, a context chat engine and an agent about this package, twice each, and print what it cost.

``python -m examples.llama_index`` runs against the local simulator, ``--live`` against Claude (ANTHROPIC_API_KEY). The
retrieval is real either way: the documents are those of this repository, the embedding needs no network.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.llms import LLM
from llama_index.core.memory import Memory
from llama_index.core.node_parser import MarkdownNodeParser
from llama_index.core.tools import FunctionTool
from llama_index.llms.anthropic import Anthropic

from examples.llama_index.embedding import HashedWords
from prefixcache_integrations.canonical import Request
from prefixcache_integrations.llama_index import CachedTokensEventHandler, StableOrderPostprocessor, enable
from prefixcache_integrations.server import Reply, Simulator, ToolUse

KEY = "ANTHROPIC_API_KEY"
ROOT = Path(__file__).parents[2]
QUESTIONS = ("What does the response cache promise?", "Which stores are there?", "What does the simulator leave out?")
RULES = (
    "You answer questions about a software package from its documents. Say what they say, and name the section. " * 60
)


def build_index() -> VectorStoreIndex:
    """Read and embed the repository's documents."""
    documents = [Document(text=(ROOT / name).read_text(), doc_id=name) for name in ("README.md", "CHANGELOG.md")]
    return VectorStoreIndex.from_documents(documents, embed_model=HashedWords(), transformations=[MarkdownNodeParser()])


def query(index: VectorStoreIndex, llm: LLM) -> list[str]:
    """Ask a query engine."""
    engine = index.as_query_engine(llm=llm, node_postprocessors=[StableOrderPostprocessor()])
    return [str(engine.query(question)) for question in QUESTIONS]


def chat(index: VectorStoreIndex, llm: LLM) -> list[str]:
    """Talk to a context chat engine, which retrieves anew for each question."""
    memory = Memory.from_defaults(token_limit=40_000)
    engine = index.as_chat_engine(chat_mode="context", llm=llm, system_prompt=RULES, memory=memory)
    return [str(engine.chat(question)) for question in QUESTIONS]


def agent(index: VectorStoreIndex, llm: LLM) -> list[str]:
    """Let an agent search the documents by itself."""
    retriever = index.as_retriever(similarity_top_k=2)

    def search(question: str) -> str:
        """Search the documents."""
        return "\n\n".join(found.node.get_content() for found in retriever.retrieve(question))

    searching = FunctionAgent(llm=llm, tools=[FunctionTool.from_defaults(search)], system_prompt=RULES)

    async def talk() -> list[str]:
        memory = Memory.from_defaults(token_limit=40_000)
        return [str(await searching.run(question, memory=memory)) for question in QUESTIONS]

    return asyncio.run(talk())


APPS: dict[str, Callable[[VectorStoreIndex, LLM], list[str]]] = {"query": query, "chat": chat, "agent": agent}


def simulated(request: Request) -> Reply:
    """Stand in for the model: search once per question where there is a tool, then say how much it was given."""
    last = request.messages[-1]
    said = last.parts[-1].text if last.parts else ""
    if request.tools and all(part.kind == "text" for part in last.parts):
        return Reply(tool_calls=[ToolUse("search", {"question": said})])
    return Reply(text=f"That is answered in the {len(said.split())} words at hand.")


@contextmanager
def opened_llm(*, live: bool) -> Iterator[LLM]:
    """Yield Claude, or the same class on a simulator."""
    if live:
        yield Anthropic(model="claude-sonnet-5", api_key=os.environ[KEY], max_tokens=1024)
        return
    with Simulator(model=simulated) as simulator:
        yield Anthropic(model="claude-sonnet-5", api_key="simulated", base_url=simulator.base_url("anthropic"))


def app(name: str) -> str:
    """Return ``name``, which must be that of an app."""
    if name not in APPS:
        raise argparse.ArgumentTypeError(f"there is no app {name!r}: choose from {', '.join(APPS)}")
    return name


def read_arguments() -> argparse.Namespace:
    """Return which apps are asked for, and whether they call Claude; end with a message where they cannot."""
    parser = argparse.ArgumentParser(prog="python -m examples.llama_index", description=__doc__)
    parser.add_argument("apps", nargs="*", type=app, metavar="app", help="query, chat or agent; all of them by default")
    parser.add_argument("--live", action="store_true", help="call Claude instead of the simulator")
    chosen = parser.parse_args()
    if chosen.live and not os.environ.get(KEY):
        parser.error(f"--live needs a key: set {KEY}")
    return chosen


def main() -> None:
    """Run the apps that are asked for."""
    chosen = read_arguments()
    index = build_index()
    for name in chosen.apps or APPS:
        with opened_llm(live=chosen.live) as llm:
            enable(llm, cache="memory://", layout="arrange")
            for again in ("first", "again"):
                handler = CachedTokensEventHandler()
                dispatcher = get_dispatcher()
                dispatcher.add_event_handler(handler)
                answers = APPS[name](index, llm)
                dispatcher.event_handlers.remove(handler)
                totals = handler.totals
                print(
                    f"{name:5} {again}: {len(answers)} answers, {totals.calls} calls, {totals.hits} from the store; "
                    f"{totals.input_tokens:,} input tokens, {totals.cache_read_tokens:,} of them cached; "
                    f"${totals.cost:.4f}"
                )


if __name__ == "__main__":
    main()
