"""What reads the bodies that a simulator was sent, in whatever format they are, and the streams that it sends."""

import json


def names(body):
    """Return the names of the tools, in their order."""
    return [tool.get("function", tool)["name"] for tool in body["tools"]]


def markers(value):
    """Count cache markers anywhere in a body."""
    if isinstance(value, dict):
        own = sum(name in value for name in ("cache_control", "prompt_cache_breakpoint"))
        return own + sum(map(markers, value.values()))
    return sum(map(markers, value)) if isinstance(value, list) else 0


def text(content):
    """Return the text of a message's content."""
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


def reads(simulator):
    """Return how many tokens each call read from the cache."""
    return [call.usage.cache_read_tokens for call in simulator.calls]


def streamed(content):
    """Return the events of a whole stream: the name of each, empty without one, and its data, ``None`` for no JSON."""
    blocks = content.decode().split("\n\n")
    assert blocks.pop() == "", "the last event was not ended"
    fields = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
    return [(each.get("event", ""), None if each["data"] == "[DONE]" else json.loads(each["data"])) for each in fields]
