"""Names of an adapter that are loaded when they are asked for, and name the extra they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from prefixcache_integrations.errors import ConfigurationError


def loader(package: str, modules: Mapping[str, str], *, needs: str, extra: str) -> Callable[[str], object]:
    """Return a ``__getattr__`` for ``package``: ``modules`` says in which of its modules each name is.

    Where a module whose name begins with ``needs`` is missing, it raises `ConfigurationError` and names ``extra``.
    """

    def load(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            return getattr(import_module(f"{package}.{modules[name]}"), name)
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith(needs):
                raise
            raise ConfigurationError(
                f"{name} needs {error.name}: pip install 'prefixcache-integrations[{extra}]'"
            ) from error

    return load
