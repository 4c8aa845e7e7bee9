"""Floor 8: the command line, ``prefixcache``."""

import sys
from importlib.util import find_spec

_NEEDED = ("typer", "rich", "starlette", "uvicorn")


def main() -> None:
    """Run the command line; where an extra is missing, say so in one line and exit with 2."""
    for module in _NEEDED:
        if find_spec(module) is None:
            sys.stderr.write(f"prefixcache needs {module}: pip install 'prefixcache-integrations[cli,server]'\n")
            raise SystemExit(2)
    from prefixcache_integrations.cli.commands import app

    app()
