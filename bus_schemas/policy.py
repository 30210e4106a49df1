"""Policy: models, review and flow; presets, overrides and the canonical hash. Pure.

A launch resolves preset and overrides into one `Policy`, stored once with its hash and never changed. Every field is
defined once, here; the table `PRESETS` gives the three presets, and `resolve` finds all errors of an override at once.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, get_args

import msgspec
from msgspec import Meta, Struct

from bus_schemas.canonical import canonical_hash
from bus_schemas.texts import MODEL, explained, plain

MODEL_CHARS_MAX = 100
Model = Annotated[str, Meta(min_length=1, max_length=MODEL_CHARS_MAX, pattern=MODEL)]


class Role(StrEnum):
    """Who a model is asked to be."""

    VALIDATOR = "validator"
    PLANNER = "planner"
    EXECUTOR = "executor"
    REVIEWER = "reviewer"
    REVIEWER_SECONDARY = "reviewer_secondary"


class Enforcement(StrEnum):
    """Which reviews run."""

    TASK_AND_PHASE = "task_and_phase"
    TASK_ONLY = "task_only"
    PHASE_ONLY = "phase_only"


class DetectorScope(StrEnum):
    """What a reviewer looks at."""

    WHOLE_REPO = "whole_repo_pattern_index"
    TOUCHED_AREA = "touched_area_only"
    ALLOWLIST = "architectural_allowlist_only"


class ArchitectMode(StrEnum):
    """When architecture is reviewed."""

    MANUAL_PLUS_AUTO = "manual_plus_auto"
    MANUAL_ONLY = "manual_only"
    DISABLED = "disabled"


class TestIntegrity(StrEnum):
    """How strictly changes of tests are judged."""

    __test__ = False  # pytest must not collect it

    STRICT_BASELINE = "strict_baseline"
    MAX_STRICT = "max_strict"
    MINIMAL = "minimal"


class HumanGate(StrEnum):
    """Where a human must approve."""

    PLAN = "plan"
    REVIEW = "review"
    FINALIZE = "finalize"


class OnNodeLoss(StrEnum):
    """What happens to the runs of a node that went away."""

    WAIT = "wait"
    RETRY = "retry"
    MOVE = "move"


class Preset(StrEnum):
    """The named policies."""

    STRICT = "strict"
    BALANCED = "balanced"
    FAST = "fast"


class ModelPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """The model of each role's next run."""

    validator: Model = "opus"
    planner: Model = "opus"
    executor: Model = "opus"
    reviewer: Model = "opus"
    reviewer_secondary: Model = "haiku"
    review_consensus: bool = False


class ReviewPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """How work is judged."""

    enforcement: Enforcement = Enforcement.TASK_AND_PHASE
    detector_scope: DetectorScope = DetectorScope.WHOLE_REPO
    architect_mode: ArchitectMode = ArchitectMode.MANUAL_PLUS_AUTO
    test_integrity_profile: TestIntegrity = TestIntegrity.STRICT_BASELINE
    hard_block_detectors: bool = True
    allow_rare_override: bool = True
    require_fix_first: bool = True


class FlowPolicy(Struct, frozen=True, forbid_unknown_fields=True):
    """How work runs. None means: all phases, no budget."""

    phases_enabled: Annotated[tuple[Annotated[int, Meta(ge=1, le=9999)], ...], Meta(min_length=1, max_length=200)] | None = None
    human_gates: Annotated[tuple[HumanGate, ...], Meta(max_length=3)] = ()
    max_parallel_tasks: Annotated[int, Meta(ge=1, le=64)] = 2
    max_task_attempts: Annotated[int, Meta(ge=1, le=20)] = 2
    run_timeout_s: Annotated[int, Meta(ge=1, le=604800)] = 1800
    on_node_loss: OnNodeLoss = OnNodeLoss.WAIT
    budget_usd: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    budget_tokens: Annotated[int, Meta(gt=0, le=10**12)] | None = None


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """One whole policy."""

    model: ModelPolicy = ModelPolicy()
    review: ReviewPolicy = ReviewPolicy()
    flow: FlowPolicy = FlowPolicy()


PRESETS: dict[Preset, Policy] = {
    Preset.STRICT: Policy(
        review=ReviewPolicy(test_integrity_profile=TestIntegrity.MAX_STRICT, allow_rare_override=False),
        flow=FlowPolicy(human_gates=(HumanGate.PLAN, HumanGate.REVIEW, HumanGate.FINALIZE), max_parallel_tasks=1),
    ),
    Preset.BALANCED: Policy(),
    Preset.FAST: Policy(
        model=ModelPolicy(executor="haiku", reviewer="haiku"),
        review=ReviewPolicy(
            enforcement=Enforcement.PHASE_ONLY,
            detector_scope=DetectorScope.TOUCHED_AREA,
            architect_mode=ArchitectMode.DISABLED,
            test_integrity_profile=TestIntegrity.MINIMAL,
            hard_block_detectors=False,
            require_fix_first=False,
        ),
        flow=FlowPolicy(max_parallel_tasks=4),
    ),
}

SECTIONS: dict[str, type[Struct]] = {"model": ModelPolicy, "review": ReviewPolicy, "flow": FlowPolicy}
_FIELD_TYPES: dict[str, dict[str, Any]] = {
    # asked once: msgspec evaluates the annotations at each call, which took a quarter of the time of a launch
    name: {field.name: field.type for field in msgspec.structs.fields(section)}
    for name, section in SECTIONS.items()
}
ERRORS_SHOWN_MAX = 20
ROLES: tuple[Role, ...] = (Role.VALIDATOR, Role.PLANNER, Role.EXECUTOR, Role.REVIEWER)


class PolicyError(ValueError):
    """Overrides that do not make a policy; `errors` lists every one as (path, what is wrong and what is allowed)."""

    def __init__(self, errors: list[tuple[str, str]]) -> None:
        """Keep the errors; the text joins them, so many that a receipt holds them."""
        self.errors = errors
        texts = [f"{path}: {text}" for path, text in errors[:ERRORS_SHOWN_MAX]]
        if len(errors) > ERRORS_SHOWN_MAX:
            texts.append(f"and {len(errors) - ERRORS_SHOWN_MAX} more")
        super().__init__("; ".join(texts))


def policy_hash(policy: Policy) -> str:
    """Return the canonical hash of a whole policy."""
    return canonical_hash(policy)


def check_hash(policy: Policy) -> str:
    """Return the hash of exactly the four roles and seven review fields, whose values the contract fixes (domain §5)."""
    return canonical_hash({"model": {role.value: getattr(policy.model, role) for role in ROLES}, "review": policy.review})


def models_of(policy: Policy) -> tuple[str, ...]:
    """Return the models that a policy needs, each once; the secondary reviewer only when consensus is on."""
    models = [getattr(policy.model, role) for role in ROLES]
    if policy.model.review_consensus:
        models.append(policy.model.reviewer_secondary)
    return tuple(dict.fromkeys(models))


def model_for(policy: Policy, role: Role) -> str:
    """Return the model of a role."""
    return str(getattr(policy.model, role))


def resolve(preset: Policy, overrides: dict[str, Any]) -> Policy:
    """Return `preset` with `overrides` ({section: {field: value}}) applied. Raises PolicyError with all errors together."""
    errors: list[tuple[str, str]] = []
    changed: dict[str, Any] = {}
    for name, patch in overrides.items():
        if name not in SECTIONS:
            errors.append((plain(name, 60), f"unknown section; allowed: {', '.join(SECTIONS)}"))
        elif not isinstance(patch, dict):
            errors.append((name, "must be an object of fields"))
        else:
            changed[name] = _patched(name, getattr(preset, name), patch, errors)
    if errors:
        raise PolicyError(errors)
    return msgspec.structs.replace(preset, **changed)


def _patched(name: str, current: Struct, patch: dict[str, Any], errors: list[tuple[str, str]]) -> Struct:
    fields = _FIELD_TYPES[name]
    values: dict[str, Any] = {}
    for key, value in patch.items():
        if key not in fields:
            errors.append((f"{name}.{plain(key, 60)}", f"unknown field; allowed: {', '.join(fields)}"))
            continue
        try:
            values[key] = msgspec.convert(value, fields[key])
        except msgspec.ValidationError as error:
            errors.append((f"{name}.{key}", f"{explained(error)}{_allowed(fields[key])}"))
    return msgspec.structs.replace(current, **values)


def _allowed(kind: Any) -> str:
    """Return the values of the enum that `kind` is, or is a list of; nothing for other types."""
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return f"; allowed: {', '.join(kind)}"
    return next((found for inner in get_args(kind) if (found := _allowed(inner))), "")


def whole(document: dict[str, Any]) -> Policy:
    """Return a policy given whole: every section and field must be there, so that half a policy is refused.

    Raises PolicyError with all errors together.
    """
    missing = [
        (f"{name}.{field}", "missing; a whole policy names every field (use a preset and overrides for a part)")
        for name, fields in _FIELD_TYPES.items()
        for field in fields
        if not isinstance(document.get(name), dict) or field not in document[name]
    ]
    try:
        policy = resolve(Policy(), document)
    except PolicyError as error:
        raise PolicyError(error.errors + missing) from error
    if missing:
        raise PolicyError(missing)
    return policy
