"""Planted secrets are found however they are written."""

from __future__ import annotations

import base64
from urllib.parse import quote

import msgspec
import pytest

from cli.audit.canary import forms

SECRET = 'pass word/ü"7f3a'


@pytest.mark.parametrize("shift", range(3))
def test_a_secret_inside_a_base64_text_is_found_at_any_offset(shift: int) -> None:
    text = base64.b64encode(b"x" * shift + SECRET.encode() + b" and more")
    assert any(form in text for form in forms(SECRET))


def test_a_secret_is_found_as_it_is_in_a_url_and_in_json() -> None:
    for text in (SECRET.encode(), quote(SECRET, safe="").encode(), msgspec.json.encode({"detail": SECRET})):
        assert any(form in text for form in forms(SECRET))


def test_a_text_that_is_too_short_to_be_a_secret_is_not_looked_for() -> None:
    assert forms("short") == ()
