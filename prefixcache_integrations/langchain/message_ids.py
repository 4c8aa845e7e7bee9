"""Ids for the messages of hits, in the form of LangChain's own."""

from __future__ import annotations

import os
from random import Random

_random = Random()  # noqa: S311 - names, not secrets; ten times faster than asking the system each time
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def new_message_id() -> str:
    """Return an id that no other message has, in this process or another, whatever anybody seeds."""
    return f"lc_run--{_random.getrandbits(128):032x}"
