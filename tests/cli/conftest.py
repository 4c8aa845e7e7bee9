import json
import warnings
from types import SimpleNamespace

import pytest

with warnings.catch_warnings():
    # An old typer asks a new click for names that click will drop.
    warnings.simplefilter("ignore", DeprecationWarning)
    from typer.testing import CliRunner

    from prefixcache_integrations.cli.commands import app

LONG = "The parcel leaves the warehouse in the evening and arrives on the next working day. " * 120
MARK = {"cache_control": {"type": "ephemeral"}}


@pytest.fixture
def prefixcache():
    """Run a command in this process: ``prefixcache("report", path).json``."""

    def run(*arguments, given=None):
        done = CliRunner().invoke(app, [str(argument) for argument in arguments], input=given)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        answer = json.loads(done.stdout) if "--json" in arguments and done.stdout else None
        return SimpleNamespace(code=done.exit_code, out=done.stdout, err=done.stderr, json=answer)

    return run


@pytest.fixture
def claude_body():
    """Build a Claude body with a marked system prompt and a marked last message."""

    def body(question="Where is it?", *, system=LONG, history=(), model="claude-sonnet-4-6"):
        last = {"role": "user", "content": [{"type": "text", "text": question, **MARK}]}
        return {
            "model": model,
            "max_tokens": 100,
            "system": [{"type": "text", "text": system, **MARK}],
            "messages": [*history, last],
        }

    return body


@pytest.fixture
def written(tmp_path):
    """Write objects as JSON, or several as lines of JSON, and return the file's path."""

    def write(name, *values):
        path = tmp_path / name
        path.write_text("\n".join(map(json.dumps, values)) + "\n")
        return path

    return write
