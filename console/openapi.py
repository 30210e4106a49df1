"""The commands of the console as an OpenAPI document, made from the contract. Pure.

It says what `POST /command/{type}` takes as a form and answers as JSON, and which pages there are; it is served at `/openapi.json`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from bus_schemas.commands import COMMAND_TYPES
from console.forms import META
from console.page import Page

_OBJECTS = frozenset({"patch", "overrides", "policy", "labels"})
"""Fields that a form spells as places: `patch.flow.budget_usd`."""
_FORM = "application/x-www-form-urlencoded"


@cache
def _commands() -> dict[str, Any]:
    return {f"/command/{kind}": {"post": _command(kind, shape)} for kind, shape in COMMAND_TYPES.items()}


def _command(kind: str, shape: type[msgspec.Struct]) -> dict[str, Any]:
    fields = [field for field in msgspec.structs.fields(shape) if field.name not in _OBJECTS]
    texts = {name: {"type": "string"} for name in sorted(META)}
    needed = ["key", *(field.name for field in fields if field.required)]
    form = {"type": "object", "properties": {**texts, **{field.name: {"type": "string"} for field in fields}}, "required": needed}
    return {
        "operationId": kind,
        "summary": (shape.__doc__ or "").partition("\n")[0],
        "parameters": [{"name": "X-QD-Form", "in": "header", "required": True, "schema": {"type": "string"}}],
        "requestBody": {"required": True, "content": {_FORM: {"schema": form}}},
        "responses": {
            "200": _json("The receipt, with the command line that does the same.", ["schema", "action", "status", "equivalent"]),
            "default": _json("Why it was not done, with a reason code.", ["error"]),
        },
    }


def _json(words: str, needed: list[str]) -> dict[str, Any]:
    return {"description": words, "content": {"application/json": {"schema": {"type": "object", "required": needed}}}}


def _page(page: Page) -> dict[str, Any]:
    parameters = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[a-z0-9-]{1,80}$"}}]
    return {
        "get": {
            "operationId": f"page{page.path.replace('/', '-').replace('{id}', 'id')}",
            "parameters": parameters if "{id}" in page.path else [],
            "responses": {
                "200": {"description": "The page.", "content": {"text/html": {}}},
                "default": {"description": "The page that says what did not work.", "content": {"text/html": {}}},
            },
        }
    }


def document(pages: tuple[Page, ...]) -> dict[str, Any]:
    """Return the document for the commands of the contract and these pages."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Quarterdeck console", "version": "1", "description": "Forms in, receipts out; a session and its form token are needed."},
        "paths": {**_commands(), **{page.path: _page(page) for page in pages}},
    }
