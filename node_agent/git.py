"""The one door to git: argument lists only, our own identity, no hooks, no prompts, no configuration but the repository's.

Owns the git child processes of the node. An agent may have written into the configuration of the clone it worked in, so
what would run a program from there is switched off on each command line.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import anyio

from node_agent.environment import IDENTITY, PATH_DEFAULT

LOCAL_TIMEOUT_S = 120.0
NETWORK_TIMEOUT_S = 900.0
ERROR_CHARS_MAX = 1500

DURABLE = "core.fsync=committed"
"""Objects and refs are on disk before anybody is told of them: by default git syncs neither, and a power cut leaves empty ones."""

SETTINGS = (
    DURABLE,
    "core.fsyncMethod=batch",  # of many new files in a clone: one sync for all of them
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.editor=true",
    "core.pager=cat",
    "core.quotePath=false",
    "core.excludesFile=/dev/null",
    "core.attributesFile=/dev/null",
    "protocol.ext.allow=never",
    f"user.name={IDENTITY[0]}",
    f"user.email={IDENTITY[1]}",
    "commit.gpgSign=false",
    "tag.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "safe.directory=*",
)

# the programs on the other side of a local transport do not get our settings; git passes these on to a shell as they are
UPLOAD_PACK = "git -c 'safe.directory=*' upload-pack"
RECEIVE_PACK = f"git -c 'safe.directory=*' -c {DURABLE} -c core.hooksPath=/dev/null -c receive.autogc=false -c gc.auto=0 receive-pack"

_KEPT = ("PATH", "HOME", "SSH_AUTH_SOCK", "TMPDIR", "https_proxy", "http_proxy", "no_proxy", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")


class GitFailed(Exception):
    """A git command ended with an error; the message is the command and what git said."""

    def __init__(self, arguments: tuple[str, ...], code: int, said: str) -> None:
        """Keep the exit code and what git said."""
        super().__init__(f"git {arguments[0]} failed ({code}): {said.strip()[-ERROR_CHARS_MAX:]}")
        self.code = code
        self.said = said


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a git process."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    fixed = {
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_OPTIONAL_LOCKS": "0",
    }
    return {"PATH": PATH_DEFAULT, **kept, **fixed, **(extra or {})}


async def git(
    *arguments: str,
    where: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    ok: tuple[int, ...] = (0,),
    timeout_s: float = LOCAL_TIMEOUT_S,
) -> bytes:
    """Return what a git command printed, run in folder `where`. Raises GitFailed, also when it takes too long."""
    settings = [word for setting in SETTINGS for word in ("-c", setting)]
    try:
        with anyio.fail_after(timeout_s):
            done = await anyio.run_process(
                ["git", *settings, *arguments],
                input=stdin,
                stderr=subprocess.PIPE,
                check=False,
                cwd=where,
                env=environment(env),
                start_new_session=True,
            )
    except TimeoutError as error:
        raise GitFailed(arguments, -1, f"no end within {timeout_s:g} s") from error
    except OSError as error:
        raise GitFailed(arguments, 127, str(error)) from error
    if done.returncode not in ok:
        raise GitFailed(arguments, done.returncode, (done.stderr or b"").decode(errors="replace") or done.stdout.decode(errors="replace"))
    return done.stdout


async def said(*arguments: str, where: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Return what a git command printed as one text without the last newline. Raises GitFailed."""
    return (await git(*arguments, where=where, env=env)).decode(errors="replace").rstrip("\n")
