"""Every error this package raises.

::

    PrefixCacheError
    ├── ConfigurationError      a setting that cannot work, or an extra that is not installed
    ├── AnswerNotCached         a request that only the response cache was to answer, and it has no answer
    ├── MalformedRequest        a body that is not what its wire format allows
    ├── MalformedRecording      a line that is no recorded call
    └── StoreError              a store did not do what it was asked
        ├── StoreUnavailable    it is down, slow or full
        │   └── StoreRefused    it answered in time, and that it will not: full, or not allowed
        └── CorruptEntry        what it returned cannot be read

Errors of a provider, an SDK or a framework pass through untouched.
"""

from __future__ import annotations


class PrefixCacheError(Exception):
    """Root of every error of this package."""


class ConfigurationError(PrefixCacheError):
    """A setting cannot work, or names an extra that is not installed."""


class AnswerNotCached(PrefixCacheError):
    """The response cache has no answer to a request that it alone was to answer."""


class MalformedRequest(PrefixCacheError):
    """A body is not what its wire format allows; ``path`` says where, the message never quotes the prompt."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.reason = message


class MalformedRecording(PrefixCacheError):
    """A line of a recording is not what this version of the package writes; the message names the line."""


class StoreError(PrefixCacheError):
    """A store did not do what it was asked."""


class StoreUnavailable(StoreError):
    """The store is down, slow or full."""


class StoreRefused(StoreUnavailable):
    """The store answered in time, and that it will not do this: it is full, or does not allow it."""


class CorruptEntry(StoreError):
    """The store returned bytes that are no entry of ours."""
