"""The JSON schemas of classes: a class is printed by its name, and what goes to the provider of it is its schema."""

from __future__ import annotations

from pydantic import BaseModel, PydanticSchemaGenerationError, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

_SCHEMA_ERRORS = (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema, PydanticUserError, TypeError)
_MOST_SCHEMAS = 256
_schemas: dict[type, tuple[object, dict[str, object] | None]] = {}
"""With what each was built of, which pydantic replaces when it builds a class anew."""


def schema_of(kind: type) -> dict[str, object] | None:
    """Return a class as its name and JSON schema, as it is since it was last built; ``None`` without one."""
    built = vars(kind).get("__pydantic_core_schema__")
    known = _schemas.get(kind)
    if known is None or known[0] is not built:
        while len(_schemas) >= _MOST_SCHEMAS:
            _schemas.pop(next(iter(_schemas)), None)
        known = _schemas[kind] = (built, _made_schema(kind))
    return known[1]


def _made_schema(kind: type) -> dict[str, object] | None:
    try:
        schema = kind.model_json_schema() if issubclass(kind, BaseModel) else TypeAdapter(kind).json_schema()
    except _SCHEMA_ERRORS:
        return None
    return {"class": kind.__name__, "doc": kind.__doc__, "schema": schema}
