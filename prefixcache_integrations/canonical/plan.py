"""What the planner decides about one request, and why."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct, field

from prefixcache_integrations.canonical.json import JsonObject
from prefixcache_integrations.canonical.request import Address, Role

Level: TypeAlias = Literal["mark", "canonical", "arrange"]
"""How far a plan may go. ``mark``: breakpoints and options only. ``canonical``: also the order of tools and of
parallel results, and deterministic serialisation. ``arrange``: also the places of documents and of values that change
within the instructions. Each level includes the one before."""

FindingCode: TypeAlias = Literal[
    "below_minimum",  # the whole prompt cannot be cached: too short by more than the uncertainty
    "near_minimum",  # within the uncertainty of the minimum: marked, may or may not be cached
    "tools_reordered",  # tools were put in an order that stays the same
    "results_reordered",  # results of parallel tool calls were put in the order of the calls
    "documents_moved",  # documents were put where they extend a prefix that is cached, or will
    "documents_dropped",  # documents that the conversation has already were left out
    "marker_removed",  # a marker where the provider refuses one, or one too many
    "marker_moved",  # a marker on a nested block, put on its parent
    "ttl_lowered",  # a longer lifetime after a shorter one
    "ttl_removed",  # a lifetime the model does not have
    "option_removed",  # a cache setting of the request that the model refuses
    "tools_changed",  # since the request before: added, removed or edited
    "system_changed",  # the instructions, since the request before
    "history_cleared",  # earlier tool calls or results were cut down in their place
    "history_summarised",  # fewer messages stand in the place of earlier ones
    "history_shortened",  # earlier messages are gone
    "history_rewritten",  # earlier messages are not what they were, in any other way
    "volatile_text",  # something in the instructions or tools that changes, so that nothing after it is read again
    "volatile_moved",  # such a value was put at the end of the prompt, or its block was split before it
    "no_cache",  # the model has no prompt cache
    "unknown_model",  # no row for this model: conservative defaults
    "estimated_tokens",  # no tokeniser at hand: counts are estimates
]


VolatileKind: TypeAlias = Literal["timestamp", "date", "time", "epoch", "uuid", "address", "id", "counter", "text"]
"""What a fragment that changes from call to call is; ``text``: it looks like nothing, but was seen to change."""


class Finding(Struct, frozen=True, kw_only=True):
    """One thing the planner has to say about a request; ``message`` never quotes the prompt.

    ``tokens`` is the number the message is about: how many are missing, for ``below_minimum``; how many are not read
    again, where something changed since the request before or changes within the instructions, with what that costs
    in uncached input tokens (``cost``) and what to do instead, the best first (``remedies``). ``offset`` is the
    character at which text that changes begins, ``kind`` what it is.
    """

    code: FindingCode
    message: str
    at: Address | None = None
    tokens: int | None = None
    cost: float | None = None
    remedies: tuple[str, ...] = ()
    offset: int | None = None
    kind: VolatileKind | None = None


class Breakpoint(Struct, frozen=True, kw_only=True):
    """A place that carries a marker after planning.

    ``prefix_tokens`` counts everything up to and including the marked block. ``reason`` says what it is
    there for; ``ours`` is false for one the application had set itself. ``automatic``: it is the request's
    top-level marker that stands here, not one on the block.
    """

    at: Address
    reason: Literal["tools", "system", "anchor", "documents", "lead", "tail", "application"]
    prefix_tokens: int
    ttl: str | None = None
    ours: bool = True
    automatic: bool = False


class Move(Struct, frozen=True, kw_only=True):
    """One block, or piece of one, that changes its place: from ``source`` to ``target``.

    Those of one reason are done at once, in the request as the reasons before have left it: copies, pieces of blocks,
    documents, ranking. ``copy``: a document that is left out, as it is at ``target`` already. ``documents``: a whole
    block, to where it extends a cached prefix. ``ranking``: the order in which the documents at ``source`` came is said
    at the end, in a message with this ``role`` or the user's. ``volatile``: the characters in ``span``, to a
    note at the end, with a placeholder where they were; the note is a message of its own with this ``role``, or the
    last block of the user's, ``None``. ``retrieved``: those in ``span`` too, to a block before the latest question.
    ``split``: the rest of a block, from where ``span`` begins, is the next block.
    """

    source: Address
    target: Address
    reason: Literal["copy", "volatile", "retrieved", "split", "documents", "ranking"]
    span: tuple[int, int] | None = None
    role: Role | None = None


class PromptPlan(Struct, frozen=True, kw_only=True):
    """The layout of one request: what to change, and what the planner found. Applying it is a separate step.

    ``tool_order`` lists the indices of the request's tools in the order to send; breakpoints on tools address the
    tools in that new order, and parts where ``moves`` has put them. ``options`` are request fields to set, ``None``
    for one to take out. ``foreign`` is the field of another provider's markers, which are taken out, ``""`` for none.
    ``prompt_tokens`` is the planner's count of the whole prompt, an estimate unless ``exact``.
    """

    level: Level
    profile: str
    prompt_tokens: int
    exact: bool
    tool_order: tuple[int, ...] = ()
    moves: tuple[Move, ...] = ()
    breakpoints: tuple[Breakpoint, ...] = ()
    foreign: str = ""
    options: JsonObject = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
