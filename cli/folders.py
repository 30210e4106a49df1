"""Where the client keeps its things on this machine. Reads the environment.

`QD_STATE_DIR`, `QD_DATA_DIR` and `QD_CONFIG_DIR` win over the places that the platform names.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

APPLICATION = "quarterdeck"


def state_dir() -> Path:
    """Return the folder of the registration of `qd up` and of the journal of keys; it may not exist yet."""
    return Path(os.environ.get("QD_STATE_DIR") or platformdirs.user_state_dir(APPLICATION))


def data_dir() -> Path:
    """Return the default folder of all that `qd up` keeps; it may not exist yet."""
    return Path(os.environ.get("QD_DATA_DIR") or platformdirs.user_data_dir(APPLICATION))


def user_config_file() -> Path:
    """Return the file of the user's own defaults; it may not exist."""
    return Path(os.environ.get("QD_CONFIG_DIR") or platformdirs.user_config_dir(APPLICATION)) / "config.toml"
