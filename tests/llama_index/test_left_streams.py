"""Streams that their consumer leaves: closed at once, and never by the collector, which may hang."""

import subprocess
import sys
from pathlib import Path


def test_streams_that_are_left_are_closed_at_once_however_they_are_left():
    command = [sys.executable, "-W", "ignore", "-m", "tests.llama_index.leave_streams"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 - ours
    lines = done.stdout.splitlines()
    assert (done.returncode, len(lines)) == (0, 3 * 5), done.stdout + done.stderr
    assert [line for line in lines if not line.endswith(" 0")] == []
