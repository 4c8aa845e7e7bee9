"""The support agent as any LangChain app would write it; nothing here knows of caches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig

from examples.support_agent.shop import POLICY, Shop, as_they_arrive

CONVERSATIONS = [
    [
        "Good morning, where are my orders A-4711 and A-4712?",
        "Then please send A-4711 to my new place: Am Markt 9, 53111 Bonn.",
        "On second thoughts, cancel A-4711. I found a used one.",
    ],
    [
        "One of the bowls in order B-2040 arrived cracked. What can I do?",
        "Thanks. And please let me pay order B-2051 by invoice instead.",
        "One last thing: what have I ordered from you so far? My customer number is 204466.",
    ],
]
"""What customers write, a conversation a list."""


OPENING = datetime(2026, 3, 2, 9, 14, 7, tzinfo=UTC)


def as_they_write() -> Iterator[datetime]:
    """Yield the times at which customers write: every minute and a half or so."""
    return (OPENING + number * timedelta(seconds=97) for number in count())


def serve_customers(
    model: BaseChatModel,
    *,
    preface: str = "",
    middleware: Sequence[AgentMiddleware] = (),
    callbacks: Sequence[BaseCallbackHandler] = (),
    clock: Iterator[datetime] | None = None,
) -> Iterator[str]:
    """Hold every conversation and yield the agent's answer to each customer message.

    As in a web app, each customer message builds the agent anew, with the tools in the order in which they
    happen to arrive; the conversation so far comes along. With a ``clock``, the system text begins with the time: an
    ordinary fault too, as nothing behind it is then the same prefix again.
    """
    config: RunnableConfig = {"callbacks": list(callbacks)}
    shop = Shop()
    request_number = 0
    for customer_messages in CONVERSATIONS:
        history: list[AnyMessage] = []
        for text in customer_messages:
            request_number += 1
            now = f"Current time: {next(clock):%Y-%m-%d %H:%M:%S}\n\n" if clock else ""
            agent = create_agent(
                model,
                tools=as_they_arrive(shop.tools(), request_number),
                system_prompt=preface + now + POLICY,
                middleware=list(middleware),
            )
            state = agent.invoke({"messages": [*history, HumanMessage(text)]}, config)
            history = state["messages"]
            yield history[-1].text
