"""What a request is planned by, whatever it says."""

from __future__ import annotations

from msgspec import Struct

from prefixcache_integrations.canonical import Level, Tokenizer
from prefixcache_integrations.profiles.profile import CacheProfile
from prefixcache_integrations.prompt.document_rules import DocumentRules
from prefixcache_integrations.prompt.findings import Bounds
from prefixcache_integrations.prompt.known import KnownPrompt


class Terms(Struct, frozen=True, kw_only=True):
    """The facts about a model, how tokens are counted, how far a plan may go, and what an application says.

    ``namespace`` is the tenant. ``known`` is what a template says of the request: which text is its own, and what this
    call filled in. ``documents`` is what may be done with them. From ``limits`` on a marker is worth setting.
    """

    profile: CacheProfile
    tokenizer: Tokenizer
    level: Level
    namespace: str
    known: KnownPrompt
    documents: DocumentRules
    limits: Bounds
