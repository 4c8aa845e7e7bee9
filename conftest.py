"""Runs the Python examples of the documents and docstrings as tests, against the simulator instead of the providers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser as MarkdownCode
from sybil.parsers.rest import PythonCodeBlockParser as RestCode

PROVIDERS = {
    "ANTHROPIC_API_KEY": "example",
    "OPENAI_API_KEY": "example",
}


@pytest.fixture
def simulated_providers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Point every SDK at a simulator, work in an empty folder, and leave no global cache behind."""
    from langchain_core.globals import set_llm_cache

    from prefixcache_integrations.server import Simulator

    with Simulator() as simulator:
        for name, value in PROVIDERS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url("anthropic"))
        monkeypatch.setenv("OPENAI_BASE_URL", simulator.base_url("openai"))
        monkeypatch.chdir(tmp_path)
        yield
        set_llm_cache(None)


_documents = Sybil(
    parsers=[MarkdownCode()],
    patterns=["README.md"],
    fixtures=["simulated_providers"],
)
_docstrings = Sybil(
    parsers=[RestCode()],
    patterns=["prefixcache_integrations/**/*.py"],
    fixtures=["simulated_providers"],
)
pytest_collect_file = (_documents + _docstrings).pytest()
