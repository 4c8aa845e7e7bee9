"""The turns of a conversation: what the latest one answers, and what its question comes after."""

from __future__ import annotations

from prefixcache_integrations.canonical import Address, Request


def latest_reply(request: Request) -> int:
    """Return at which message the most recent run of assistant messages begins; 0 where there is none."""
    index = latest_turn(request)
    while index and request.messages[index - 1].role == "assistant":
        index -= 1
    return index


def latest_turn(request: Request) -> int:
    """Return with which message the latest turn begins, behind all of the assistant's."""
    index = len(request.messages)
    while index and request.messages[index - 1].role != "assistant":
        index -= 1
    return index


def before_question(request: Request) -> frozenset[Address]:
    """Return what a user says in the latest turn before the last of it, which is the question.

    Where results of tools are answered there is none.
    """
    turn = list[Address]()
    for index in range(len(request.messages) - 1, -1, -1):
        message = request.messages[index]
        if message.role != "user" or any(part.kind == "tool_result" for part in message.parts):
            break
        turn += (Address("messages", index, number) for number in reversed(range(len(message.parts))))
    return frozenset(turn[1:])
