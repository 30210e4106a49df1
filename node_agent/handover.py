"""Results that agents hand over in a file: read with suspicion, since an agent can put anything there.

Owns nothing; reads one file of the run folder. Links, pipes, devices and too many bytes are refused, never followed or
waited for.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

from bus_schemas.reasons import Reason
from bus_schemas.reports import RESULT_BYTES_MAX, Result
from node_agent.verdict import Problem


def schema(kind: type[Result]) -> bytes:
    """Return the JSON Schema of a result."""
    return msgspec.json.format(msgspec.json.encode(msgspec.json.schema(kind)), indent=2)


def read(path: Path, kind: type[Result]) -> Result | Problem | None:
    """Return the result in `path`; None when there is no such file."""
    try:
        # without O_NONBLOCK a pipe would be waited for
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Problem(Reason.OUTPUT_MALFORMED, f"the result is not a file that can be read: {error.strerror}")
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return Problem(Reason.OUTPUT_MALFORMED, "the result is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(RESULT_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    if len(data) > RESULT_BYTES_MAX:
        return Problem(Reason.OUTPUT_TOO_LARGE, f"the result is over {RESULT_BYTES_MAX // 1024} KiB")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        return Problem(Reason.OUTPUT_MALFORMED, f"the result is not of the agreed form: {error}")
