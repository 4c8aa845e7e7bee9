"""The environment of lowest versions is that of the lower bounds."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOWER_BOUND = re.compile(r"(?P<name>[a-z0-9-]+)(\[[a-z]+\])?>=(?P<version>[0-9.]+)")


def test_every_lower_bound_is_tried():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    beside_langchain = project["optional-dependencies"] | {"llama-index": [], "llama-index-anthropic": []}
    requirements = [*project["dependencies"], *(row for rows in beside_langchain.values() for row in rows)]
    bounds = {found["name"]: found["version"] for found in map(LOWER_BOUND.match, requirements) if found}
    lines = (ROOT / "tests/minimum.txt").read_text("utf-8").splitlines()
    assert dict(line.split("==") for line in lines if not line.startswith("#")) == bounds
