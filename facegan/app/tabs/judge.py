"""The tab of the judge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from facegan.app import judging
from facegan.app.tabs.common import (
    AT_ONCE,
    LONG,
    QUICK,
    Page,
    as_command,
    buttons,
    choices,
    labelled,
    say,
    shown,
    status,
    stoppable,
    watched,
)
from facegan.app.turns import Worker


def judge_tab(page: Page, tab: gr.Tab) -> None:
    """Lay it out and wire it."""
    networks = page.networks
    runs = networks.runs()
    gr.Markdown(
        "How many faces carry all attributes, by a pair of classifiers that had no part in any training: between the *floor*, faces "
        "of attribute 1 alone, and the *ceiling*, real faces with all of them."
    )
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            run_name = gr.Dropdown(
                labelled(runs, networks.called),
                value=runs[0] if runs else None,
                label="Run whose judge rates",
                elem_id="judge-run-name",
                filterable=False,
            )
            what = gr.Radio([judging.OWN, judging.SHOWN], value=judging.OWN, label="What is judged", elem_id="judge-what")
            samples = gr.Slider(
                16,
                judging.MOST_SAMPLES,
                value=256,
                step=16,
                label="Samples",
                info="of the run's own faces",
                elem_id="judge-samples",
                buttons=[],
            )
            begin, cancel = buttons("judge", "Evaluate")
            stored = gr.Button("Show the run's report", elem_id="judge-stored", size="sm")
            line = status("judge")
        with gr.Column(scale=2, min_width=300):
            result = gr.Image(
                elem_classes="pictures",
                label="Faces framed by verdict, and rates",
                elem_id="judge-result",
                type="filepath",
                format="png",
                interactive=False,
                alt_text="faces framed by the judge's verdict, and rates",
                buttons=["fullscreen"],
            )
            words = gr.Textbox(label="Figures", elem_id="judge-figures", lines=8, max_lines=24, interactive=False, elem_classes="command")
            text = as_command("judge")
            archive = gr.DownloadButton("Download report.zip", elem_id="judge-download", size="sm", interactive=False)

    def told(found: judging.Judged) -> Any:
        return str(found.picture), found.words, found.command, gr.update(value=str(found.archive), interactive=True), say("", found.notes)

    @shown
    def on_stored(run: str, request: gr.Request) -> Any:
        return told(judging.stored(networks, page.session(request), run))

    @shown
    def on_run(run: str, what: str, samples: float, request: gr.Request) -> Iterator[Any]:
        session = page.session(request)
        with session.job("judge") as job:
            worker = Worker(job, lambda: judging.evaluate(networks, session, job, run, what, int(samples)))
            found = yield from watched(worker, lambda job: (gr.skip(),) * 4 + (say(job.describe()),))
        yield told(found)

    def on_open(run: str) -> Any:
        return choices(networks.runs(), run, networks.called)

    outputs = [result, words, text, archive, line]
    click = begin.click(on_run, [run_name, what, samples], outputs, api_name="judge", **LONG)
    show = stored.click(on_stored, [run_name], outputs, api_name="report", show_progress_on=line, **QUICK)
    tab.select(on_open, run_name, run_name, **AT_ONCE)
    stoppable(page, "judge", cancel, line, [click, show])
