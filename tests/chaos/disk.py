"""A small disk of our own: an ext4 file system in a file, whose power can be cut and which can be full.

Owns the image file, its mount and the loop device behind it. Needs root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

TOOLS = ("mkfs.ext4", "e2fsck", "mount", "umount", "losetup")
UNMOUNT_TRIES = 40
FSCK_CLEAN = (0, 1)
"""Exit codes of e2fsck: nothing was wrong, or it was put right."""


def why_not() -> str | None:
    """Return why this machine has no loop file systems for us, or None."""
    if os.geteuid() != 0:
        return "a loop file system needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None]
    if missing:
        return f"a loop file system needs {', '.join(missing)}"
    # a container may be root and have no loop devices
    found = subprocess.run(["losetup", "--find"], capture_output=True, text=True, check=False)
    return None if found.returncode == 0 else f"there is no loop device: {found.stderr.strip()}"


def _sh(*command: str | Path, ok: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode not in ok:
        raise OSError(f"{' '.join(str(word) for word in command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


class LoopDisk:
    """A file system of `size_mib` in `folder`, mounted at `mount` while the context is open."""

    def __init__(self, folder: Path, size_mib: int) -> None:
        """Name the files; entering the context makes them."""
        self.mount = folder / "disk"
        self._image, self._after, self._size_mib = folder / "disk.img", folder / "after-the-cut.img", size_mib

    def __enter__(self) -> LoopDisk:
        """Make the file system and mount it."""
        self.mount.mkdir(parents=True, exist_ok=True)
        with self._image.open("wb") as image:
            image.truncate(self._size_mib * 1024**2)
        # no reserved blocks: root must meet the full disk like everybody else
        _sh("mkfs.ext4", "-q", "-F", "-m", "0", self._image)
        self._attach()
        return self

    def __exit__(self, *error: object) -> None:
        """Unmount it and remove its image."""
        self._detach()
        for image in (self._image, self._after):
            image.unlink(missing_ok=True)

    def _attach(self) -> None:
        _sh("mount", "-o", "loop", self._image, self.mount)

    def _detach(self) -> None:
        for _ in range(UNMOUNT_TRIES):
            if subprocess.run(["umount", self.mount], capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.1)  # a killed process may still be letting go of its files
        _sh("umount", "--lazy", self.mount)

    def cut(self) -> None:
        """Keep what has reached the block device by now; what the kernel still holds back in its page cache is not in there.

        Every process that writes must be stopped (SIGSTOP) before: the copy of the image is not one instant, and only then
        is nothing acknowledged while it is made. Freezing the file system would make the instant, and flush the page cache
        first, which is the very thing that a power cut does not do. What the kernel itself writes back meanwhile is data that
        nobody was told is safe, so a copy with half of it is one of the states a real cut may leave.
        """
        _sh("cp", "--sparse=always", "--reflink=auto", self._image, self._after)

    def power_on(self) -> str:
        """Put what the cut kept in the place of the file system; return what e2fsck said. Nobody may use the mount any more."""
        self._detach()
        said = _sh("e2fsck", "-f", "-y", self._after, ok=FSCK_CLEAN)
        os.replace(self._after, self._image)
        self._attach()
        return said

    @property
    def free_bytes(self) -> int:
        """How much room there is."""
        return shutil.disk_usage(self.mount).free

    def fill(self, name: str = "ballast", *, leave_bytes: int = 0) -> Path:
        """Fill it with one file but for `leave_bytes`; removing that file makes room again."""
        path = self.mount / name
        with path.open("ab", buffering=0) as file:
            for piece in (1024**2, 4096, 512):
                chunk = bytes(piece)
                try:
                    while self.free_bytes - piece >= leave_bytes:
                        file.write(chunk)
                except OSError:
                    continue
        return path
