"""What all tabs share: the page's state, errors as sentences, long work that is watched."""

from __future__ import annotations

import functools
import html
import inspect
import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import gradio as gr

from facegan.app.networks import Networks
from facegan.app.sessions import Session, Sessions
from facegan.app.turns import Job, Worker
from facegan.app.words import STOPPED, PageError, plain, told

log = logging.getLogger("facegan.app")
T = TypeVar("T")
UNKNOWN = "Something went wrong that should not have: the terminal of facegan app says what."
NOTHING = "nothing is running"
PRIVATE: dict[str, Any] = dict(api_visibility="private")
QUICK: dict[str, Any] = dict(concurrency_id="device", concurrency_limit=1, show_progress="minimal")  # one after the other
LONG: dict[str, Any] = dict(concurrency_id="long", concurrency_limit=1, show_progress="hidden")  # between whose steps the quick ones go
AT_ONCE: dict[str, Any] = dict(queue=False, show_progress="hidden", **PRIVATE)
LATEST: dict[str, Any] = dict(trigger_mode="always_last", **PRIVATE)  # while one request runs, of those that follow only the last counts


@dataclass(frozen=True)
class Page:
    """What every tab needs."""

    networks: Networks
    sessions: Sessions

    def session(self, request: gr.Request | None) -> Session:
        """The visitor who asks."""
        self.sessions.tidy()
        return self.sessions.of(getattr(request, "session_hash", None))


def forget_who_leaves(page: Page, demo: gr.Blocks) -> None:
    """Stop what a visitor's page was doing when it is closed, and remove what it made."""

    def left(request: gr.Request) -> None:
        page.sessions.close(request.session_hash)

    demo.unload(left)


def shown(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler whose errors are sentences on the page."""

    def failed(error: Exception) -> gr.Error:
        if isinstance(error, gr.Error):
            return error
        if isinstance(error, PageError):
            return gr.Error(str(error), title="", print_exception=False, duration=20)
        log.exception("an error of the page")
        return gr.Error(UNKNOWN, title="", print_exception=False)

    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def each(*args: Any) -> Iterator[Any]:
            try:
                with told():
                    yield from handler(*args)
            except Exception as error:
                if str(error) != STOPPED:  # whoever pressed Cancel is told by that button
                    raise failed(error) from None

        return each

    @functools.wraps(handler)
    def once(*args: Any) -> Any:
        try:
            with told():
                return handler(*args)
        except Exception as error:
            raise failed(error) from None

    return once


def watched(worker: Worker[T], say: Callable[[Job], Any]) -> Generator[Any, None, T]:
    """What `say` makes of the job, whenever that has changed; the generator's value is the work's result."""
    last: Any = None
    for job in worker:
        now = (job.bar, id(job.picture))
        if now != last:
            last = now
            yield say(job)
    return worker.result


def say(text: str, notes: Sequence[str] = ()) -> str:
    """A line of status, and what the library had to say, as HTML."""
    lines = [f"<strong>{html.escape(text)}</strong>" if text else "", *(html.escape(plain(note)) for note in notes)]
    return f'<div role="status" aria-live="polite">{"<br>".join(line for line in lines if line)}</div>'


def status(tab: str) -> gr.HTML:
    """Where a tab says what it does."""
    return gr.HTML(say(""), elem_id=f"{tab}-status", elem_classes="status", padding=False)


def as_command(tab: str, which: str = "", more: str = "") -> gr.Textbox:
    """Where a tab's state stands as a command line."""
    return gr.Textbox(
        label="as a command" + more,
        elem_id=f"{tab}-command" + (f"-{which}" if which else ""),
        lines=2,
        max_lines=8,
        interactive=False,
        buttons=["copy"],
        elem_classes="command",
    )


def buttons(tab: str, run: str) -> tuple[gr.Button, gr.Button]:
    """The button that begins, and the one that stops."""
    with gr.Row(elem_classes="buttons"):
        begin = gr.Button(run, variant="primary", elem_id=f"{tab}-run", min_width=120)
        cancel = gr.Button("Cancel", variant="secondary", elem_id=f"{tab}-cancel", min_width=120)
    return begin, cancel


def stoppable(page: Page, tab: str, cancel: gr.Button, line: gr.HTML, events: Sequence[Any]) -> None:
    """Have the button stop what the tab does, whether it runs or waits."""

    def stop(request: gr.Request) -> str:
        return say("stopping" if page.session(request).stop(tab) else NOTHING)

    def over(before: str, request: gr.Request) -> Any:
        """What the work has said last is overtaken by this, as it comes after its end."""
        if NOTHING in (before or ""):
            return gr.skip()
        session = page.session(request)
        for _ in range(100):
            if not session.works(tab):
                break
            time.sleep(0.05)
        return say(STOPPED)

    stopping = cancel.click(stop, None, line, cancels=list(events), **AT_ONCE)
    stopping.then(over, line, line, **AT_ONCE)


def choices(names: Sequence[str], value: Any = None, called: Callable[[str], str] = str) -> Any:
    """New choices of a control; `called`: what they are called on the page. A `value` that is still among them is left to the page, where
    the visitor may have chosen another meanwhile."""
    offered = labelled(names, called)
    return gr.update(choices=offered) if value in names else gr.update(choices=offered, value=names[0] if names else None)


def labelled(names: Sequence[str], called: Callable[[str], str]) -> list[tuple[str, str]]:
    """Choices as Gradio takes them: what is shown, what it means."""
    return [(called(name), name) for name in names]


def ticked(names: Sequence[str], value: Sequence[str], called: Callable[[str], str]) -> Any:
    """New boxes to tick; those that were stay ticked."""
    return gr.update(choices=labelled(names, called), value=[name for name in value or [] if name in names])
