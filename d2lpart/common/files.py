"""Files written whole or not at all: a reader never meets half of one, and the old one stays."""

import os
import threading
from pathlib import Path


def write_whole(path: str | Path, content: str | bytes) -> Path:
    """Write `content` (text as UTF-8) to `path`, in the place of what was there; return the path.

    The content goes to a draft beside the file, which then takes the file's name in one move.

    Raises:
        OSError: the folder is missing or may not be written, or the disk is full. No draft is
            left behind then, and an older file is as it was.
    """
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        draft.write_bytes(data)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path
