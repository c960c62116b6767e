"""The page and its server."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING

from facegan.app.networks import Networks
from facegan.app.quiet import load_gradio, no_server_yet
from facegan.app.sessions import Sessions
from facegan.app.turns import hook, unhook
from facegan.errors import FaceganError
from facegan.options import App

if TYPE_CHECKING:
    import gradio

log = logging.getLogger("facegan.app")
UPLOAD = "256mb"  # of one file, as `facegan.data.formats` reads at most
LOCAL = ("127.0.0.1", "localhost", "::1")
THREADS = 40


def build(options: App) -> gradio.Blocks:
    """The page for these networks and runs, not served yet."""
    load_gradio()
    networks, sessions = Networks(options), Sessions()
    os.environ["GRADIO_TEMP_DIR"] = str(sessions.cache)
    import gradio as gr

    from facegan.app.tabs.common import Page, forget_who_leaves
    from facegan.app.tabs.generate import generate_tab
    from facegan.app.tabs.judge import judge_tab
    from facegan.app.tabs.mix import mix_tab
    from facegan.app.tabs.photo import photo_tab
    from facegan.app.tabs.runs import runs_tab

    hook()
    page = Page(networks, sessions)

    with no_server_yet(), gr.Blocks(title="facegan", analytics_enabled=False, delete_cache=(600, 3600)) as demo:
        gr.Markdown("# facegan", elem_id="title")
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Generate", elem_id="generate-tab"):
                generate_tab(page, demo)
            with gr.Tab("Mix", elem_id="mix-tab") as tab:
                mix_tab(page, tab)
            with gr.Tab("Photo", elem_id="photo-tab") as tab:
                photo_tab(page, tab)
            with gr.Tab("Judge", elem_id="judge-tab") as tab:
                judge_tab(page, tab)
            with gr.Tab("Runs", elem_id="runs-tab") as tab:
                runs_tab(page, tab)
        forget_who_leaves(page, demo)
    with no_server_yet():
        demo.queue(default_concurrency_limit=1, max_size=200)
    demo.page = page
    return demo


def launch(demo: gradio.Blocks, options: App) -> str:
    """Serve a page in threads of its own; returns its address."""
    from facegan.app.tabs import looks

    port = options.port or free_port(options.host)
    if options.host not in LOCAL:
        log.warning("the page is open to every machine that reaches %s, and asks for no password", options.host)
    try:
        _, address, _ = demo.launch(
            server_name=options.host,
            server_port=port,
            share=False,
            inbrowser=False,
            prevent_thread_lock=True,
            quiet=True,
            max_threads=THREADS,
            max_file_size=UPLOAD,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            enable_monitoring=False,
            footer_links=["api"],
            run_history=False,
            css=looks.CSS,
            head=looks.HEAD,
            theme=looks.theme(),
        )
    except OSError as error:
        raise FaceganError(
            f"{options.host}:{port} cannot be listened at ({error}): name another `port`, or 0 for any that is free"
        ) from None
    return str(address)


def free_port(host: str) -> int:
    """A port that nobody listens at."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise FaceganError(f"`host` is {host!r}, which is no address of this machine ({error.strerror}): such as 127.0.0.1") from None
        return int(probe.getsockname()[1])


def start(options: App) -> tuple[gradio.Blocks, str]:
    """A page that is served, and its address."""
    demo = build(options)
    try:
        return demo, launch(demo, options)
    except BaseException:
        end(demo)
        raise


def wait(address: str) -> None:
    """Say where the page is, and return at Ctrl-C or SIGTERM."""
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    print(f"facegan app: {address}  (Ctrl-C ends it)", flush=True)
    over.wait()


def end(demo: gradio.Blocks) -> None:
    """Stop serving, stop all work, remove what was made."""
    demo.close(verbose=False)
    unhook()
    demo.page.sessions.end()  # type: ignore[attr-defined]
