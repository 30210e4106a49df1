"""`docs/cli.md`, made from the help texts and the tables of this package: `python -m cli.reference > docs/cli.md`. Pure.

A test compares the file with what this returns, so that the page cannot lie.
"""

from __future__ import annotations

import re
import sys

from cli import commands
from cli.exits import MEANINGS, OWN_EXPLANATIONS, exit_of
from cli.options import GLOBAL_OPTIONS
from cli.receipts import FIELDS

INTRODUCTION = """\
# The command line `qd`

Made from the help texts by `python -m cli.reference > docs/cli.md`; do not edit it by hand.

stdout is data, stderr is everything else. `qd up` registers itself, so that plain `qd ls` in another terminal finds it.
An id is lower-cased and checked before anything is sent; one that is not safe is refused by the client.
"""

CONFIGURATION = """\
Precedence: flag, environment, `./quarterdeck.toml`, the user's `config.toml`, default. The file in the current folder may come
with somebody's repository, so only {project_file} can be set there.

| variable | what it chooses |
|---|---|
| `QD_STATE_DIR` | the folder of the registration of `qd up` and of the journal of keys |
| `QD_DATA_DIR` | the default folder of `qd up` |
| `QD_CONFIG_DIR` | the folder of the user's `config.toml` |
| `NO_COLOR` | no colour, whatever the files say |
"""

WRITING = """\
A verb that changes something prints a receipt, which is durable when it is printed. As JSON it has the fields
{fields}. A refused one is printed too, and the error stands on stderr.

Each command carries an idempotency key: the same key and request take effect once, for ever. A key that you do not choose is made,
printed on stderr (without `-o json`, where it is a field of the receipt), and written to a journal before the command leaves;
`--retry-last` sends the same request with the same key again, after exit 10.

`--wait` waits until the action is accepted (the default), `--wait=done` until it is completed, `qd launch --wait=end` until the
orchestration ends, `--no-wait` not at all. `--timeout` is the limit of an answer (30 s), and of these waits; `watch`, `--follow` and
`--wait=end` have no limit without it.
"""

OUTPUT = """\
`-o json`: one thing is a flat object with `"schema":"qd.<noun>/1"`; a list is `{"schema":"qd.<noun>-list/1","items":[...],"next":...}`;
what follows (`watch`, `--follow`) is one object a line. `-o ndjson`: one item a line. `-o name`: ids alone. Times are RFC 3339.
Errors are one object on stderr: `{"error":{"code","message","hint","retryable","action"}}`.
"""


def markdown() -> str:
    """Return the page."""
    parts = [INTRODUCTION, "## Verbs\n", _verbs(), "## Global options\n", _options(), CONFIGURATION.format(project_file=_project_file())]
    parts += ["## Writing\n", WRITING.format(fields=", ".join(f"`{field}`" for field in ("schema", *FIELDS)))]
    parts += ["## Output\n", OUTPUT, "## Exit codes\n", _exits()]
    return "\n".join(parts)


def _project_file() -> str:
    return " and ".join(f"`{option.name}`" for option in GLOBAL_OPTIONS if option.in_project_file)


def _verbs() -> str:
    # usage lines of cyclopts take words of the process's own command line
    before, sys.argv = sys.argv, ["qd"]
    try:
        pages = commands.build(whole=True).generate_docs(output_format="markdown", recursive=True, include_hidden=False)
    finally:
        sys.argv = before
    pages = pages[pages.index("## qd ") :]
    pages = re.sub(r"^(#+) (qd .*)$", lambda match: f"#{match[1]} `{match[2]}`", pages, flags=re.MULTILINE)
    # the epilogue stands below under a heading of its own
    pages = pages.replace(commands.EPILOGUE, "")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in pages.splitlines())).strip() + "\n"


def _options() -> str:
    lines = ["They stand at any position, before the verb or after it.", "", "| option | environment | |", "|---|---|---|"]
    for option in GLOBAL_OPTIONS:
        flags = ", ".join(f"`{flag}{' ' + option.metavar if option.metavar else ''}`" for flag in option.flags)
        lines.append(f"| {flags} | {f'`{option.env}`' if option.env else ''} | {option.help} |")
    return "\n".join([*lines, ""])


def _exits() -> str:
    lines = ["| exit | meaning |", "|---|---|", *(f"| {int(code)} | {meaning} |" for code, meaning in MEANINGS.items())]
    lines += ["", "The client's own codes, beside the reason codes of the ledger (`qd explain` says more of each):", ""]
    lines += ["| code | exit | cause |", "|---|---|---|"]
    lines += [f"| `{code}` | {int(exit_of(code))} | {explanation.cause} |" for code, explanation in OWN_EXPLANATIONS.items()]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.stdout.write(markdown())
