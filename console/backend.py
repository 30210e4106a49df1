"""What the pages have of the plane: queries, and commands through the same door as the command line's.

Owns the console's connection. A question that fails is a `Problem` with its reason code, never an empty answer.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import msgspec

from bus.connection import Bus
from bus.errors import NotSent, Rejected, Unavailable
from bus.paging import all_pages
from bus.request import CommandClient, OutcomeUnknown, TooLarge
from bus_schemas import subjects
from bus_schemas.commands import Command
from bus_schemas.decisions import ActionStatus, Receipt
from bus_schemas.ids import BadId
from bus_schemas.reasons import EXPLANATIONS, Reason

log = logging.getLogger(__name__)

QUERY_TIMEOUT_S = 10.0
RECEIPT_TIMEOUT_S = 15.0
UNREACHABLE = "unreachable"
OUTCOME_UNKNOWN = "outcome_unknown"

_STATUS: dict[str, int] = {
    UNREACHABLE: 503,
    OUTCOME_UNKNOWN: 504,
    Reason.ENTITY_NOT_FOUND: 404,
    Reason.NOT_AUTHORIZED: 403,
    Reason.FEATURE_DISABLED: 403,
    Reason.REVISION_CONFLICT: 409,
    Reason.INVALID_STATE: 409,
    Reason.TOO_LARGE: 413,
    Reason.INTERNAL: 503,
}


class Problem(Exception):
    """Something did not work; `code` is a reason code of the contract, or `unreachable` or `outcome_unknown`."""

    def __init__(self, code: str, message: str, *, hint: str = "", receipt: Receipt | None = None, key: str = "") -> None:
        """Keep what is shown."""
        super().__init__(message)
        self.code, self.message, self.receipt, self.key = code, message, receipt, key
        self.conflict: Any = None
        """What a change that came too late stands against, for a page that can show it."""
        known = {reason.value: explanation for reason, explanation in EXPLANATIONS.items()}.get(code)
        self.hint = hint or ("" if known is None else known.next_step)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return _STATUS.get(self.code, 422 if self.code.startswith("validation_") else 500)


class Backend:
    """The plane as pages see it."""

    def __init__(self, bus: Bus, client: CommandClient) -> None:
        """Ask over `bus`, send with `client`."""
        self.bus, self._client = bus, client

    async def ask(self, name: str, /, **params: Any) -> dict[str, Any]:
        """Return the answer of a query; parameters that are None are left out. Raises Problem."""
        sent = {key: value for key, value in params.items() if value is not None}
        try:
            reply = await self.bus.request_raw(subjects.query(name), msgspec.json.encode(sent), timeout_s=QUERY_TIMEOUT_S)
            answer: dict[str, Any] = msgspec.json.decode(reply.data, type=dict[str, Any])
        except NotSent as error:
            text = f"nobody answers {name!r} right now: the controller or the timeline is away"
            raise Problem(UNREACHABLE, text, hint="It is asked again.") from error
        except Unavailable as error:
            raise Problem(UNREACHABLE, str(error), hint="It is asked again.") from error
        refusal = answer.get("error")
        if isinstance(refusal, dict) and "code" in refusal:
            raise Problem(str(refusal["code"]), str(refusal.get("message", "")))
        return answer

    async def ask_all(self, name: str, /, **params: Any) -> list[dict[str, Any]]:
        """Return the items of all pages of a list. Raises Problem."""
        items: list[dict[str, Any]] = (await all_pages(partial(self.ask, name, **params)))["items"]
        return items

    async def submit(self, command: Command, key: str, *, reason: str | None = None, dry_run: bool = False) -> Receipt:
        """Return the receipt of an accepted command, or of a dry run. Raises Problem; one that was refused has its receipt."""
        try:
            receipt = await self._client.submit(command, key, reason=reason or None, dry_run=dry_run, timeout_s=RECEIPT_TIMEOUT_S)
        except BadId as error:
            raise Problem(Reason.INVALID_PAYLOAD, str(error)) from error
        except TooLarge as error:
            raise Problem(Reason.TOO_LARGE, str(error)) from error
        except (NotSent, Rejected) as error:
            raise Problem(UNREACHABLE, f"nothing was sent: {error}", hint="Your input is kept; send it again.", key=key) from error
        except (OutcomeUnknown, Unavailable) as error:
            text = f"it was sent, and whether it was decided is not known yet: {error}"
            raise Problem(OUTCOME_UNKNOWN, text, hint="Send it again: with the same key it takes effect once.", key=key) from error
        if receipt.status is ActionStatus.REFUSED:
            raise Problem(receipt.reason_code or Reason.INTERNAL, receipt.message, receipt=receipt, key=key)
        return receipt
