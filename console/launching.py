"""The launch form: its fields are those of the policy, its presets fill them, and what it sends is only what differs. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec
from msgspec.structs import replace

from bus_schemas.commands import Launch
from bus_schemas.policy import PRESETS, SECTIONS, HumanGate, Policy, PolicyError, Preset, Role, policy_hash, resolve

LEGENDS = {"model": "Models", "review": "How work is judged", "flow": "How it flows"}


class Field(NamedTuple):
    """A field of the policy as a form shows it. `kind` is choice, switch, gates, number or text; `presets` has its value in each preset."""

    section: str
    name: str
    kind: str
    choices: tuple[str, ...]
    presets: dict[str, Any]

    @property
    def path(self) -> str:
        """Where it stands: `section.name`."""
        return f"{self.section}.{self.name}"


def fields() -> list[Field]:
    """Return every field of a policy, in the order of the contract."""
    found: list[Field] = []
    for section, kind in SECTIONS.items():
        hints = get_type_hints(kind)
        for name in kind.__struct_fields__:
            presets = {preset.value: msgspec.to_builtins(getattr(getattr(policy, section), name)) for preset, policy in PRESETS.items()}
            found.append(Field(section, name, *_shape(section, name, hints[name]), presets))
    return found


def _shape(section: str, name: str, hint: Any) -> tuple[str, tuple[str, ...]]:
    if name == "human_gates":
        return "gates", tuple(gate.value for gate in HumanGate)
    if hint is bool:
        return "switch", ()
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return "choice", tuple(hint)
    kinds = {hint, *get_args(hint)}
    if name == "phases_enabled" or section == "model":
        return "text", ()
    return ("number", ()) if kinds & {int, float} else ("text", ())


def pruned(command: Launch) -> Launch:
    """Return a launch that names only what differs from its preset: a form sends all fields."""
    if command.preset not in set(Preset):
        return command
    base = msgspec.json.decode(msgspec.json.encode(PRESETS[Preset(command.preset)]))
    kept = {
        section: {name: value for name, value in values.items() if base.get(section, {}).get(name, _NOWHERE) != value}
        for section, values in command.overrides.items()
        if isinstance(values, dict)
    }
    return replace(command, overrides={section: values for section, values in kept.items() if values})


_NOWHERE = object()


class Resolved(NamedTuple):
    """What a form comes to: the policy with its hash, or every error; and what differs from the preset."""

    policy: Policy | None
    hash: str
    errors: list[tuple[str, str]]
    changed: list[tuple[str, Any, Any]]


def resolved(command: Launch) -> Resolved:
    """Return what the policy of a launch comes to, all errors together."""
    if command.preset not in set(Preset):
        return Resolved(None, "", [("preset", f"allowed: {', '.join(Preset)}")], [])
    base = PRESETS[Preset(command.preset)]
    try:
        policy = resolve(base, command.overrides)
    except PolicyError as error:
        return Resolved(None, "", error.errors, [])
    before, after = msgspec.to_builtins(base), msgspec.to_builtins(policy)
    changed = [(f"{s}.{f}", before[s][f], after[s][f]) for s in after for f in after[s] if before[s][f] != after[s][f]]
    return Resolved(policy, policy_hash(policy), [], changed)


ROLES = tuple(role.value for role in Role)
