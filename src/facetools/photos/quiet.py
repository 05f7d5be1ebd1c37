"""Keep Pillow and libtiff, which it decodes with, from writing to stderr."""

from __future__ import annotations

import ctypes
import logging
from functools import cache


@cache
def silence_pillow() -> None:
    """Keep what goes wrong with a photo off stderr: Pillow raises it anyway.

    Pillow's log is written nowhere unless the program that uses it says where. libtiff's handlers of errors and
    warnings, which print, are taken away; they belong to the process, and so need no care about threads, as a
    redirected stderr would. Where Pillow has no libtiff, or one that it does not share, nothing changes.
    """
    from PIL import _imaging

    logging.getLogger("PIL").addHandler(logging.NullHandler())

    try:
        library = ctypes.CDLL(_imaging.__file__)  # a name is looked up in what a library was linked with, too
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            handler = getattr(library, name)
            handler.restype, handler.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
            handler(None)
    except (OSError, AttributeError):
        return
