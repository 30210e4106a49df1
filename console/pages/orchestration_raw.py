"""Raw: the orchestration as the plane answers it, and the work order of each run: what the agent was asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from bus_schemas import ids
from bus_schemas.reasons import Reason
from console.backend import Problem
from console.page import Context, Visit
from console.pages import orchestration
from console.pages.orchestration_timeline import work_of

if TYPE_CHECKING:
    from console.app import Console

RUNS_SHOWN = 500


async def load(visit: Visit) -> Context:
    """Return the document, and the runs whose orders can be opened. Raises Problem."""
    context = await orchestration.head(visit)
    runs = await visit.backend.ask_all("runs", orchestration=context["o"]["id"])
    listed = [{**run, "work": work_of(run)} for run in runs[::-1][:RUNS_SHOWN]]
    return {**context, "tab": "raw", "runs": listed, "hidden": len(runs) - len(listed)}


PAGES = (orchestration.tab("raw", load),)


def routes(console: Console) -> list[Route]:
    """Return the document as a file, and the order of a run as a fragment."""

    async def document(request: Request) -> Response:
        try:
            found = await console.backend.ask("orchestration", id=request.path_params["id"])
        except Problem as problem:
            return console.problem(request, problem)
        text = json.dumps(found, indent=2, ensure_ascii=False, default=str)
        headers = {"content-disposition": f'attachment; filename="{ids.orchestration_id(found["id"])}.json"'}
        return Response(text + "\n", media_type="application/json", headers=headers)

    async def order(request: Request) -> Response:
        template = console.templates.get_template("orchestration_raw_order.html")
        try:
            run = ids.run_id(request.query_params.get("run", ""))
            if ids.orchestration_of(run) != request.path_params["id"]:
                raise Problem(Reason.ENTITY_NOT_FOUND, f"{ids.shown(request.path_params['id'])} has no run {run}")
            found = await console.backend.ask("order", run=run)
        except ids.BadId as error:
            problem = Problem(Reason.INVALID_PAYLOAD, str(error))
            return HTMLResponse(template.render({"problem": problem}), problem.status)
        except Problem as problem:
            return HTMLResponse(template.render({"problem": problem}), problem.status)
        inputs = found.get("inputs", {})
        texts = {name: value for name, value in inputs.items() if isinstance(value, str) and "\n" in value}
        facts = {name: value for name, value in inputs.items() if name not in texts}
        rest = {name: value for name, value in found.items() if name not in ("inputs", "position")}
        return HTMLResponse(template.render({"problem": None, "inputs": inputs, "texts": texts, "facts": facts, "rest": rest}))

    return [Route("/orchestrations/{id}/raw/document", document), Route("/orchestrations/{id}/raw/order", order)]
