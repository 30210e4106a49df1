"""Answers as humans see them: tables and lines. Pure."""
