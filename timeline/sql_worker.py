"""The SQL worker: a process that runs one statement of an analyst on a published copy, and ends. `python -m timeline.sql_worker`.

It reads one request from stdin and writes one answer to stdout, both JSON lines. It has limits on memory, processor time
and files, an empty environment, and as root it becomes nobody before it looks at the statement. Whoever started it
kills it when it takes too long.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import sys
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import duckdb
import msgspec
from msgspec import Struct

from bus_schemas.reasons import Reason
from timeline.cells import cell
from timeline.sql_guard import Forbidden, check, parser

ANSWER_BYTES_MAX = 900 * 1024
"""What fits into one reply of the bus."""

SPILL_BYTES_MAX = 256 * 1024**2
OPEN_FILES_MAX = 64
RESERVED_BYTES = 256 * 1024**2
"""Address space that threads and allocators take and do not use."""

NOBODY = 65534
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
SIGKILL = 9

SQL_LIMIT = "sql_limit"
"""The code of a statement that took more time or memory than it may; not a reason code of the ledger."""

READY = b"ready\n"


class SqlRequest(Struct, frozen=True):
    """A statement, the copy it reads, and how many rows are wanted."""

    path: str
    sql: str
    limit: int


class SqlAnswer(Struct, frozen=True, omit_defaults=True):
    """Rows as JSON values, and the position they are true for; or a code and a message."""

    columns: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    rows: msgspec.Raw = msgspec.Raw(b"[]")
    truncated: bool = False
    position: str = "0.0"
    code: str | None = None
    message: str = ""


def _restrict(memory_bytes: int, cpu_s: int) -> None:
    """Take limits for what comes; what is in memory already does not count."""
    if sys.platform == "linux":
        with open("/proc/self/statm") as statm:
            used_bytes = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used_bytes + 2 * memory_bytes + RESERVED_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (SPILL_BYTES_MAX,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES_MAX,) * 2)


def _become_nobody(folder: str) -> None:
    """Give up what a statement needs not: root, ways to new privileges, and a life longer than that of whoever started us."""
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    if sys.platform == "linux":
        # after the change of user, which takes the first of these back
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, SIGKILL)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _open(path: str, folder: str, memory_bytes: int) -> duckdb.DuckDBPyConnection:
    """Open a copy for reading, with a configuration that no statement can change."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": "2",
        "memory_limit": f"{memory_bytes // 1024**2}MiB",
        "temp_directory": folder,
        "max_temp_directory_size": f"{SPILL_BYTES_MAX // 1024**2}MiB",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "allow_persistent_secrets": "false",
        "python_enable_replacements": "false",
    }
    connection = duckdb.connect(path, read_only=True, config=config)
    connection.execute("SET TimeZone='UTC'")
    connection.execute("SET enable_external_access=false")
    connection.execute("SET lock_configuration=true")
    return connection


def _macros(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    found = connection.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'table_macro' AND NOT internal"
    ).fetchall()
    return frozenset(name for (name,) in found)


def answer(connection: duckdb.DuckDBPyConnection, parsing: duckdb.DuckDBPyConnection, request: SqlRequest) -> SqlAnswer:
    """Return what a statement answers. Raises Forbidden, duckdb.Error and MemoryError."""
    check(parsing, request.sql, _macros(connection))
    (position,) = connection.execute("SELECT coalesce(max(last_seq || '.' || last_idx), '0.0') FROM ingest_position").fetchall()[0]
    connection.execute("BEGIN TRANSACTION READ ONLY")
    relation = connection.sql(request.sql)
    columns, types = tuple(relation.columns), tuple(str(kind) for kind in relation.types)
    rows = _without_zones(relation, columns, types).limit(request.limit + 1).fetchall()
    encoded = bytearray(b"[")
    for row in rows[: request.limit]:
        encoded += (b"," if len(encoded) > 1 else b"") + msgspec.json.encode([cell(value) for value in row])
        if len(encoded) > ANSWER_BYTES_MAX:
            message = f"the answer is over {ANSWER_BYTES_MAX // 1024} KiB; select fewer columns or rows"
            return SqlAnswer(code=Reason.TOO_LARGE, message=message)
    return SqlAnswer(columns, types, msgspec.Raw(bytes(encoded + b"]")), len(rows) > request.limit, position)


def _without_zones(relation: duckdb.DuckDBPyRelation, columns: tuple[str, ...], types: tuple[str, ...]) -> duckdb.DuckDBPyRelation:
    """Return the relation with times as plain UTC: Python needs a time zone database for the others, which a machine may lack."""
    zoned = "TIMESTAMP WITH TIME ZONE"
    if zoned not in types or len(set(columns)) != len(columns):
        return relation
    shown = []
    for column, kind in zip(columns, types, strict=True):
        name = '"' + column.replace('"', '""') + '"'
        shown.append(f"({name} AT TIME ZONE 'UTC') AS {name}" if kind == zoned else name)
    return relation.project(", ".join(shown))


def _answer(request: SqlRequest, parsing: duckdb.DuckDBPyConnection, folder: str, memory_bytes: int) -> SqlAnswer:
    try:
        connection = _open(request.path, folder, memory_bytes)
    except (duckdb.Error, MemoryError) as error:
        return SqlAnswer(code=Reason.INTERNAL, message=f"the published copy does not open: {error}")
    _become_nobody(folder)
    try:
        return answer(connection, parsing, request)
    except Forbidden as error:
        return SqlAnswer(code=Reason.INVALID_PAYLOAD, message=str(error))
    except (duckdb.OutOfMemoryException, MemoryError):
        return SqlAnswer(code=SQL_LIMIT, message=f"the statement needs more than {memory_bytes // 1024**2} MiB of memory")
    except (duckdb.Error, msgspec.MsgspecError, RecursionError) as error:
        return SqlAnswer(code=Reason.INVALID_PAYLOAD, message=str(error)[:4000])


def main(arguments: list[str]) -> None:
    """Run one statement; `arguments` are the spill folder, the memory in bytes and the processor time in seconds."""
    folder, memory_bytes, cpu_s = arguments[0], int(arguments[1]), int(arguments[2])
    os.chdir(folder)
    with contextlib.suppress(ZoneInfoNotFoundError):
        ZoneInfo("UTC")  # kept by Python: nobody may not be allowed to read it later
    parsing = parser()
    _restrict(memory_bytes, cpu_s)
    try:
        sys.stdout.buffer.write(READY)
        sys.stdout.buffer.flush()
        line = sys.stdin.buffer.readline()
        if line:
            request = msgspec.json.decode(line, type=SqlRequest)
            sys.stdout.buffer.write(msgspec.json.encode(_answer(request, parsing, folder, memory_bytes)) + b"\n")
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        line = b""
    if not line:  # whoever started us went away, and nobody else removes this
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # nothing here is worth an orderly end


if __name__ == "__main__":
    main(sys.argv[1:])
