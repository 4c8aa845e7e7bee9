"""A recording on disk: a line of JSON per call."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from prefixcache_integrations.insight import recording
from prefixcache_integrations.insight.recording import RecordedCall

_logger = logging.getLogger("prefixcache_integrations")


class Recorder:
    """Adds lines to a file, each whole, whoever writes: threads share a lock, processes the append mode.

    The file is opened at the first line and made anew if it is gone. A line that cannot be written is lost and logged,
    without its content.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()

    def write(self, call: RecordedCall) -> None:
        """Add a line."""
        try:
            line = recording.write(call)
            with self._lock, self._path.open("ab", buffering=0) as file:
                file.write(line)
        except (OSError, TypeError, ValueError, RecursionError) as error:
            _logger.warning("A call was not recorded: %s", type(error).__name__)
