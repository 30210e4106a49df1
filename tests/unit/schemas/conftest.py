"""Hypothesis on a machine that others use too: how long an example takes says nothing."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("contract", deadline=None)
settings.load_profile("contract")
