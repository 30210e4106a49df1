"""Audit: whether the evidence of a run agrees with what is promised, judged by code that shares no rule with the controller."""
