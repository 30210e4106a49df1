"""Agents: what a node can run, one adapter for each."""
