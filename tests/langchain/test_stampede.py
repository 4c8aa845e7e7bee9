"""One call for many alike among processes, over SQLite and Redis."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["sqlite", "redis"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/answers.db"
    return request.getfixturevalue("start_redis")().url() + "?timeout=2"


@pytest.fixture
def calls_of(url, tmp_path):
    """Return a function that starts the script and returns how many calls its processes made."""

    def run(*arguments):
        command = [sys.executable, "-m", "tests.langchain.stampede", url, str(tmp_path), *arguments]
        assert subprocess.run(command, cwd=ROOT, check=False, timeout=60).returncode == 0  # noqa: S603 - our own script
        return len(list(tmp_path.glob("call-*")))

    return run


def test_eight_processes_with_twenty_five_threads_each_make_one_call(calls_of):
    assert calls_of("8", "25") == 1


def test_when_the_leader_is_killed_one_other_calls(calls_of):
    assert calls_of("3", "10", "die") == 2
