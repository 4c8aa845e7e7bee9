from __future__ import annotations

import pytest

from prefixcache_integrations import dialects


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/messages", "anthropic_messages"),
        ("/v1/messages?beta=true", "anthropic_messages"),
        ("/anthropic/v1/messages", "anthropic_messages"),
        ("/v1/chat/completions", "openai_chat"),
        ("/openai/v1/chat/completions", "openai_chat"),
        ("/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21", "openai_chat"),
        ("/v1/responses", "openai_responses"),
        ("/openai/v1/responses", "openai_responses"),
        ("/openai/responses?api-version=2025-04-01-preview", "openai_responses"),
        ("/openai/deployments/my-gpt/responses", "openai_responses"),
    ],
)
def test_a_path_tells_its_dialect(path: str, name: str) -> None:
    dialect = dialects.resolve(path)
    assert dialect is not None
    assert dialect.name == name
    assert dialects.by_name(dialect.name) is dialect


@pytest.mark.parametrize(
    "path",
    ["", "/", "/v1/messages/batches", "/v1/messages/count_tokens", "/v1/v1/messages", "/v1/responses/resp_1",
     "/v1/completions", "/openai/deployments/a/b/chat/completions", "/v1/embeddings"],
)  # fmt: skip
def test_a_path_of_another_api_has_none(path: str) -> None:
    assert dialects.resolve(path) is None
