"""The headers that an SDK's client sends with every request: those it was given, and those of the environment.

``OPENAI_CUSTOM_HEADERS`` and ``ANTHROPIC_CUSTOM_HEADERS`` hold one header a line, and OpenAI's clients read
``OPENAI_ORG_ID`` and ``OPENAI_PROJECT_ID``: see the constructors in ``openai/_client.py`` and ``anthropic/_client.py``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, TypeAlias

from prefixcache_integrations.canonical.json import as_object

Sdk: TypeAlias = Literal["openai", "anthropic"]

_LISTS: Mapping[Sdk, str] = {"openai": "OPENAI_CUSTOM_HEADERS", "anthropic": "ANTHROPIC_CUSTOM_HEADERS"}
_SINGLE: Mapping[Sdk, Mapping[str, str]] = {
    "openai": {"openai-organization": "OPENAI_ORG_ID", "openai-project": "OPENAI_PROJECT_ID"},
    "anthropic": {},
}


def sent_by(client: object, given: object, sdk: Sdk) -> Mapping[str, object]:
    """Return what ``client`` sends; where there is none yet, what one of ``sdk`` will that is made with ``given``."""
    own = getattr(client, "default_headers", None)
    if isinstance(own, Mapping):
        return own
    single = {header: os.environ.get(variable) for header, variable in _SINGLE[sdk].items()}
    listed = (line.partition(":") for line in os.environ.get(_LISTS[sdk], "").split("\n") if ":" in line)
    return single | {name.strip(): value.strip() for name, _, value in listed} | dict(as_object(given) or {})
