"""`qd schema` and `qd completion`: the contract and the command line, for programs and shells."""

from __future__ import annotations

from typing import Any, Literal

from cyclopts import App

from cli.context import Ctx

app = App(name="schema", help="The contract, for programs.")


@app.command
async def commands(*, ctx: Ctx) -> None:
    """Print the JSON Schema (2020-12) of every command that the bus takes."""
    import msgspec

    from bus_schemas.commands import COMMAND_TYPES

    schemas, components = msgspec.json.schema_components(COMMAND_TYPES.values(), ref_template="#/$defs/{name}")
    items = {name: schema["$ref"].rpartition("/")[2] for name, schema in zip(COMMAND_TYPES, schemas, strict=True)}
    document: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Quarterdeck commands",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in items.values()],
        "$defs": components,
    }
    if ctx.options.output == "name":
        for name in items:
            ctx.out.line(name)
    else:
        ctx.out.json(document)


def completion(shell: Literal["bash", "zsh", "fish"], /, *, ctx: Ctx) -> int:
    """Print a completion script for a shell.

    For bash: `qd completion bash > ~/.local/share/bash-completion/completions/qd`.
    """
    from cli import commands

    ctx.out.raw(commands.build(whole=True).generate_completion(prog_name="qd", shell=shell))
    return 0
