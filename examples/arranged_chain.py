"""What a chain reads from the provider's cache as it is, and laid out at level ``arrange``; on the local simulator.

    pip install 'prefixcache-integrations[all]'
    python -m examples.arranged_chain

The time and what was retrieved stand in front of 1,500 tokens that are the same in every call, and hide them.
"""

from __future__ import annotations

from langchain_anthropic import ChatAnthropic
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable
from pydantic import SecretStr

from prefixcache_integrations.langchain import with_prompt_layout
from prefixcache_integrations.server import Simulator

POLICY = "Parcels leave the warehouse in the evening and arrive on the next working day. " * 100
PROMPT = ChatPromptTemplate([("system", "It is {now}. Go by this: {context}\n\n" + POLICY), ("human", "{question}")])


def main() -> dict[str, list[int | None]]:
    """Ask three questions in each way, and return how many tokens each call read from the cache."""
    read: dict[str, list[int | None]] = {}
    with Simulator() as simulator:
        model = ChatAnthropic(
            model_name="claude-sonnet-4-6",
            base_url=simulator.base_url("anthropic"),
            api_key=SecretStr("any"),
            max_retries=0,
        )
        chain: Runnable[dict[str, str], str] = PROMPT | model | StrOutputParser()
        ways = {"as it is": chain, "arranged": with_prompt_layout(chain, level="arrange")}
        for name, way in ways.items():
            simulator.reset()
            for van in range(3):
                context = f"Parcel A-{van} is in van {van}."
                way.invoke({"now": f"10:0{van}", "context": context, "question": f"Where is parcel A-{van}?"})
            read[name] = [call.usage.cache_read_tokens for call in simulator.calls if call.usage]
    return read


if __name__ == "__main__":
    for name, tokens in main().items():
        print(f"{name}: {tokens} tokens read from the cache")
