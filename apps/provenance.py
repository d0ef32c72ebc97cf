"""Where results come from: versions, commit, date and machine."""

import datetime
import os
import pathlib
import platform
import re
import subprocess

import keras
import tensorflow as tf

import spfde_keras


def provenance() -> dict:
    """Returns what a result must say to be repeated.

    Returns:
        A dictionary: "versions" of keras, tensorflow and spfde_keras; "commit" of this program,
        with "-dirty" behind it where files have changed since, None where it is not known;
        "date", of now in UTC, as ISO 8601 has it; "machine", as of `machine`.
    """
    now = datetime.datetime.now(datetime.UTC)
    return {
        "versions": {
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "spfde_keras": spfde_keras.__version__,
        },
        "commit": commit(pathlib.Path(__file__)),
        "date": now.isoformat(timespec="seconds"),
        "machine": machine(),
    }


def machine() -> dict:
    """Returns what kind of machine this is: "processor", "cores" and "python"."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }


def _processor() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    found = re.search("model name\\s*: (.*)", path.read_text()) if path.exists() else None
    return found.group(1) if found else platform.processor()


def commit(file: pathlib.Path) -> str | None:
    """Returns the commit that is checked out where git knows a file, None anywhere else.

    An environment may lie inside of another repository, whose commit says nothing of the file.
    """
    known = _git(file.parent, "ls-files", "--error-unmatch", file.name)
    if known is None:
        return None
    return _git(file.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: pathlib.Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
