"""A process of its own: leaves streams in every way, and collects memory while the lock of HTTP connections is held.

Prints what is still open afterwards, a line per provider and way.
"""

import asyncio
import gc
import sys
from contextlib import aclosing

from llama_index.core.llms import ChatMessage
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.openai import OpenAI, OpenAIResponses

from prefixcache_integrations.llama_index import enable
from prefixcache_integrations.server import Reply, Simulator

ASK = [ChatMessage(content="How long for lamps?")]


def made(simulator, provider):
    if provider == "claude":
        return Anthropic(model="claude-sonnet-4-5", api_key="k", base_url=simulator.base_url("anthropic"))
    kind = OpenAI if provider == "openai" else OpenAIResponses
    return kind(model="gpt-4o-mini", api_key="k", api_base=simulator.base_url("openai"))


def pool(llm, *, awaits=False):
    name = "_aclient" if awaits else "_client"
    client = getattr(llm, name) or getattr(llm, f"_get{name}")()
    return client._client._transport._pool


def still_open(connections):
    return sum(not connection.is_idle() for connection in connections)


def broken_off(llm):
    for _ in llm.stream_chat(ASK):
        break


def closed(llm):
    stream = llm.stream_chat(ASK)
    next(stream)
    stream.close()


async def abroken_off(llm):
    async for _ in await llm.astream_chat(ASK):
        break


async def aclosed(llm):
    async with aclosing(await llm.astream_chat(ASK)) as stream:
        await anext(stream)


async def cancelled(llm):
    begun = asyncio.Event()

    async def read():
        async for _ in await llm.astream_complete("Once"):
            begun.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])


def leave_blocking(llm):
    for leave in (broken_off, closed):
        leave(llm)
        yield leave, still_open(pool(llm).connections)
        with pool(llm)._optional_thread_lock:
            gc.collect()


async def leave_awaiting(llm):
    found = []
    for leave in (abroken_off, aclosed, cancelled):
        await leave(llm)
        for _ in range(50):  # closing goes on when asyncio gets to it
            await asyncio.sleep(0.001)
        found.append((leave, still_open(pool(llm, awaits=True).connections)))
    return found


def main():
    gc.disable()
    with Simulator(model=lambda _: Reply(text="Thirty days it is. " * 50)) as simulator:
        for provider in ("claude", "openai", "responses"):
            llm = enable(made(simulator, provider), cache="memory://")
            for leave, count in (*leave_blocking(llm), *asyncio.run(leave_awaiting(llm))):
                sys.stdout.write(f"{provider} {leave.__name__} {count}\n")


if __name__ == "__main__":
    main()
