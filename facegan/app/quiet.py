"""Gradio without what it does to the machine: statistics, checks for versions, and files written beside its own source."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import inspect
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from facegan.errors import FaceganError

# Nothing is asked of the internet: no statistics, no check for newer versions, no tunnel.
SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_SHARE": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_SSR_MODE": "False",
}


@contextmanager
def no_stubs() -> Iterator[None]:
    """While components are defined, Gradio parses their source and writes a .pyi file beside each, which takes half the time of its
    import; it does neither for a class that lies in no file."""
    plain: Any = inspect.getfile

    def getfile(thing: Any) -> str:
        if isinstance(thing, type) and thing.__module__.startswith(("gradio.", "facegan.app.")):
            raise OSError("no file is told")
        return str(plain(thing))

    module: Any = inspect
    module.getfile = getfile
    try:
        yield
    finally:
        module.getfile = plain


@contextmanager
def no_server_yet() -> Iterator[None]:
    """While a page is laid out, Gradio makes a server for it twice, and a third one as it is launched, which is the one that serves."""
    from gradio.routes import App

    made: Any = App.__dict__["create_app"]
    unmade: Any = App
    unmade.create_app = staticmethod(lambda *_, **__: None)
    try:
        yield
    finally:
        unmade.create_app = made


@contextmanager
def no_collection() -> Iterator[None]:
    """What is imported and built here is there until the process ends: the garbage collector need not look through it, now or later."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was:
            gc.enable()


def load_gradio() -> None:
    """Import it; FaceganError where it is not installed."""
    os.environ.update(SETTINGS)
    for name in ("httpx", "httpx2"):  # a line for each request that Gradio makes to itself
        logging.getLogger(name).setLevel(logging.WARNING)
    if importlib.util.find_spec("gradio") is None:
        raise FaceganError("the page needs Gradio, which is not installed: pip install 'facegan[app]'")
    with no_stubs():
        importlib.import_module("gradio")
        importlib.import_module("facegan.app.tabs.photo_input")
