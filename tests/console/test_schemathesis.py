"""Whatever is sent to the console: an answer, never a 5xx. `CONSOLE_CASES=10000 pytest tests/console/test_schemathesis.py` for many."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.schemas import OpenApiSchema

from bus_schemas.commands import COMMAND_TYPES
from console import openapi
from console.pages import PAGES
from tests.console.http import Http

CASES = int(os.environ.get("CONSOLE_CASES", "200"))
SCHEMA: OpenApiSchema = schemathesis.openapi.from_dict(openapi.document(PAGES))
OPERATIONS = [result.ok() for result in SCHEMA.get_all_operations()]


@pytest.fixture(scope="module")
def session(http: Http) -> Iterator[requests.Session]:
    with requests.Session() as found:
        own = http.own()
        found.headers.update({name: own[name] for name in ("Cookie", "Origin", "Sec-Fetch-Site", "X-QD-Form", "Accept")})
        yield found


@settings(max_examples=CASES, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_request_that_the_document_allows_ends_in_a_5xx(data: st.DataObject, http: Http, session: requests.Session) -> None:
    operation = data.draw(st.sampled_from(OPERATIONS), label="operation")
    case = data.draw(operation.as_strategy(), label="case")
    path = operation.path.replace("{id}", str((case.path_parameters or {}).get("id", "x")))
    form: dict[str, Any] = case.body if isinstance(case.body, dict) else {}
    base = f"http://{http.authority}"
    if operation.method.upper() == "GET":
        answer = session.get(base + path, timeout=20, allow_redirects=False)
    else:
        form = {**form, "dry_run": "true"}  # so that ten thousand of them leave the deck as it was
        encoded = [(name.encode(errors="replace"), str(value).encode(errors="replace")) for name, value in form.items()]
        answer = session.post(base + path, data=encoded, timeout=20, allow_redirects=False)
        assert answer.headers["content-type"].startswith(("application/json", "text/plain"))
    assert answer.status_code < 500, (operation.method, path, form, answer.text[:500])


def test_the_document_is_served_to_who_is_logged_in_and_names_every_command(http: Http) -> None:
    answer = http.get("/openapi.json")
    assert answer.status == 200
    paths = json.loads(answer.body)["paths"]
    assert {f"/command/{kind}" for kind in COMMAND_TYPES} <= set(paths)
    assert all(page.path in paths for page in PAGES)
    assert http.request("GET", "/openapi.json").status == 303


def test_the_answer_of_a_command_has_what_the_document_says(http: Http) -> None:
    answer = http.post("/command/comment-add", {"target": "shop-d1", "body": "x", "key": "openapi-1", "dry_run": "true"})
    found = json.loads(answer.body)
    assert answer.status == 200
    assert {"schema", "action", "status", "equivalent"} <= set(found)
    refused = json.loads(http.post("/command/pause", {"orchestration": "shop-o99999", "key": "openapi-2"}).body)
    assert re.fullmatch(r"[a-z_]+", refused["error"]["code"])
