"""A failure of a verb: one code, one message, one next step, one exit code. Pure."""

from __future__ import annotations

from typing import Any

from cli.exits import USAGE, Exit, exit_of, explanation_of, is_retryable


class Failure(Exception):
    """What ends a verb other than well. The exit code and the hint follow from `code` unless they are given."""

    def __init__(self, code: str, message: str, *, hint: str | None = None, action: str | None = None, exit_code: Exit | None = None) -> None:
        """Keep what is printed."""
        super().__init__(message)
        explanation = explanation_of(code)
        self.code = code
        self.message = message
        self.hint = hint if hint is not None else (explanation.next_step if explanation else "")
        self.action = action
        self.retryable = is_retryable(code)
        self.exit_code = exit_code if exit_code is not None else exit_of(code)

    def as_object(self) -> dict[str, Any]:
        """Return the error object that stands on stderr under `-o json`."""
        return {
            "error": {"code": self.code, "message": self.message, "hint": self.hint, "retryable": self.retryable, "action": self.action},
        }

    def as_text(self) -> str:
        """Return the lines that stand on stderr for humans."""
        lines = f"error: {self.message}  [{self.code}]"
        return f"{lines}\nhint:  {self.hint}" if self.hint else lines


def usage(message: str, hint: str | None = None) -> Failure:
    """Return the failure of a command line that is wrong."""
    return Failure(USAGE, message, hint=hint)
