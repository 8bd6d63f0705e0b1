"""Servers that refuse root: where root starts them, they run as somebody else, to whom their files belong."""

import os
import pwd
import shutil
from pathlib import Path

from ol_devkit.servers.process import find_command


def hand_over(folder: Path, account: str) -> None:
    """Give a folder and the files in it to who runs the server."""
    if owner := _owner(account):
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, owner)


def unprivileged(account: str) -> list[str]:
    """Return what runs a command as an account of the server's package, or as nobody; empty where this is not root."""
    owner = _owner(account)
    if not owner:
        return []
    setpriv = find_command("setpriv", package="the Debian package util-linux")
    return [setpriv, f"--reuid={owner}", f"--regid={pwd.getpwnam(owner).pw_gid}", "--clear-groups"]


def _owner(account: str) -> str:
    if os.geteuid():
        return ""
    return account if any(entry.pw_name == account for entry in pwd.getpwall()) else "nobody"
