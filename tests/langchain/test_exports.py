import subprocess
import sys

import pytest

import prefixcache_integrations.langchain as adapter

_WITHOUT_LANGCHAIN = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"langchain", "langchain_core"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import prefixcache_integrations.langchain as adapter
from prefixcache_integrations.errors import ConfigurationError
for name in adapter.__all__:
    try:
        getattr(adapter, name)
    except ConfigurationError as error:
        assert "prefixcache-integrations[langchain]" in str(error), error
        assert name in str(error)
    else:
        raise AssertionError(name)
"""

_LAZY = """
import sys
import prefixcache_integrations.langchain
assert not {"langchain", "langchain_core", "sqlite3"} & set(sys.modules)
"""

_WITHOUT_FORK = """
import os, sys, tempfile
for name in ("fork", "register_at_fork"):
    delattr(os, name) if hasattr(os, name) else None
sys.modules["fcntl"] = None
import prefixcache_integrations.langchain as adapter
for name in adapter.__all__:
    getattr(adapter, name)
from langchain_core.language_models import FakeListChatModel
with tempfile.TemporaryDirectory() as folder:
    cache = adapter.ResponseCache.from_url(f"sqlite:///{folder}/answers.db")
    model = FakeListChatModel(responses=["first", "second"], cache=cache)
    assert model.invoke("hi").text == model.invoke("hi").text == "first"
    cache.close()
"""


@pytest.mark.parametrize(
    "script",
    [_WITHOUT_LANGCHAIN, _LAZY, _WITHOUT_FORK],
    ids=["the extra is named", "nothing is loaded", "a system that does not fork"],
)
def test_in_an_interpreter_of_its_own(script):
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("name", adapter.__all__)
def test_every_name_is_there(name):
    assert getattr(adapter, name).__name__ == name
    assert name in dir(adapter)


def test_no_other_name_is():
    with pytest.raises(AttributeError, match="Nothing"):
        _ = adapter.Nothing
