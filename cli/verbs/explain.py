"""`qd explain`: what a code means and what to do next."""

from __future__ import annotations

import difflib
from typing import Any

from bus_schemas.reasons import EXPLANATIONS, Reason, category
from cli.context import Ctx
from cli.exits import MEANINGS, OWN_EXPLANATIONS, Exit, exit_of, explanation_of
from cli.failure import Failure
from cli.table import Column, Table
from cli.text import cell


async def explain(code: str | None = None, /, *, ctx: Ctx) -> None:
    """Explain a reason code, or an exit code.

    Says cause, next step and exit code. Without CODE it lists all; a number explains an exit code.
    """
    if code is None:
        items = [_described(known) for known in (*EXPLANATIONS, *OWN_EXPLANATIONS)]
        if not ctx.out.many("code", {"items": items, "next": None}, "code"):
            columns = (Column("CODE", "id"), Column("EXIT", "number"), Column("CAUSE"))
            ctx.out.table(Table(columns, tuple((i["code"], str(i["exit_code"]), i["cause"]) for i in items)), empty="")
        return
    if code.isdecimal():
        _exit(ctx, code)
        return
    found = _described(_known(code))
    if not ctx.out.one("code", found, found["code"]):
        ctx.out.line(found["code"])
        ctx.out.line(f"  cause  {found['cause']}")
        ctx.out.line(f"  next   {found['next_step']}")
        ctx.out.line(f"  exit   {found['exit_code']}: {MEANINGS[Exit(found['exit_code'])]}")


def _known(code: str) -> str:
    wanted = code.strip().lower().replace("-", "_")
    codes = [*map(str, EXPLANATIONS), *OWN_EXPLANATIONS]
    without_category = [known for known in codes if known.partition("_")[2] == wanted]
    if wanted in codes:
        return wanted
    if len(without_category) == 1:
        return without_category[0]
    near = difflib.get_close_matches(wanted, [*codes, *(known.partition("_")[2] for known in codes)], 3, 0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else "`qd explain` lists all codes."
    raise Failure(Reason.ENTITY_NOT_FOUND, f"no reason code is called {cell(code)[:60]!a}", hint=hint)


def _described(code: str) -> dict[str, Any]:
    explanation = explanation_of(code)
    assert explanation is not None
    kind = category(code) if code in set(Reason) else "client"
    return {
        "code": str(code),
        "category": kind,
        "cause": explanation.cause,
        "next_step": explanation.next_step,
        "exit_code": int(exit_of(code)),
    }


def _exit(ctx: Ctx, code: str) -> None:
    known = {int(exit_code): meaning for exit_code, meaning in MEANINGS.items()}
    if int(code) not in known:
        raise Failure(Reason.ENTITY_NOT_FOUND, f"qd never exits with {code[:20]}", hint=f"Exit codes: {', '.join(map(str, known))}.")
    if not ctx.out.one("exit", {"exit_code": int(code), "meaning": known[int(code)]}, code):
        ctx.out.line(f"{code}  {known[int(code)]}")
