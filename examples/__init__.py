"""Runnable examples; each works against the local simulator, and against the provider with ``--live`` and a key."""
