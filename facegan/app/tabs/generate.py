"""The tab of faces by seed."""

from __future__ import annotations

from typing import Any

import gradio as gr

from facegan.app import faces
from facegan.app.tabs.common import AT_ONCE, PRIVATE, QUICK, Page, as_command, buttons, choices, labelled, say, shown, status, stoppable


def generate_tab(page: Page, demo: gr.Blocks) -> None:
    """Lay it out and wire it."""
    networks = page.networks
    names = networks.names()
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            network = gr.Dropdown(
                labelled(names, networks.called), value=names[0], label="Network or run", elem_id="generate-network", filterable=False
            )
            seeds = gr.Textbox("0-15", label="Seeds", info="0-15, or 1,5,9: one seed, one face", elem_id="generate-seeds", max_length=2000)
            surprise = gr.Button("Surprise me", elem_id="generate-surprise", size="sm")
            truncation = gr.Slider(
                0,
                1.5,
                value=1,
                step=0.05,
                label="Truncation",
                info="below 1: better faces, less variety",
                elem_id="generate-truncation",
                buttons=[],
            )
            best = gr.Slider(
                0, 64, value=0, step=1, label="Best", info="so many, by the run's critics; 0: all", elem_id="generate-best", buttons=[]
            )
            run, cancel = buttons("generate", "Generate")
            line = status("generate")
        with gr.Column(scale=2, min_width=300):
            result = gr.Gallery(
                label="Faces by seed: a click keeps one for the next tabs",
                elem_id="generate-result",
                elem_classes=["pictures", "faces"],
                columns=8,
                allow_preview=False,
                object_fit="contain",
                height="auto",
                format="png",
                interactive=False,
                buttons=[],
            )
            kept = gr.Textbox(label="Kept", value="none", interactive=False, elem_id="generate-kept", lines=1)
            with gr.Row():
                save = gr.Button("Prepare the files", elem_id="generate-save", size="sm", min_width=120)
                archive = gr.DownloadButton("Download faces.zip", elem_id="generate-download", size="sm", min_width=120, interactive=False)
            text = as_command("generate")

    @shown
    def on_run(network: str, seeds: str, truncation: float, best: float, request: gr.Request) -> Any:
        session = page.session(request)
        found = faces.generate(networks, session, network, seeds, truncation, int(best or 0))
        session.made = found
        captions = [(str(file), str(seed)) for file, seed in zip(found.files, found.seeds, strict=True)]
        return captions, found.command, say(f"{len(found.files)} faces", found.notes), gr.update(interactive=False)

    @shown
    def on_keep(event: gr.SelectData, request: gr.Request) -> Any:
        session = page.session(request)
        done = faces.keep(networks, session, session.made, int(event.index))
        return kept_in_words(session), say(done)

    @shown
    def on_save(request: gr.Request) -> Any:
        return gr.update(value=str(faces.download(page.session(request))), interactive=True)

    def kept_in_words(session: Any) -> str:
        return ", ".join(f"{seed} of {name}" for name, seed in session.kept) or "none"

    def on_load(network: str) -> Any:
        return choices(networks.names(), network, networks.called)

    inputs, outputs = [network, seeds, truncation, best], [result, text, line, archive]
    click = run.click(on_run, inputs, outputs, api_name="generate", show_progress_on=line, **QUICK)
    enter = seeds.submit(on_run, inputs, outputs, **PRIVATE, show_progress_on=line, **QUICK)
    lucky = surprise.click(faces.surprise, None, seeds, **AT_ONCE)
    then = lucky.then(on_run, inputs, outputs, **PRIVATE, show_progress_on=line, **QUICK)
    result.select(on_keep, None, [kept, line], **AT_ONCE)
    save.click(on_save, None, archive, **PRIVATE, show_progress_on=line, **QUICK)
    stoppable(page, "generate", cancel, line, [click, enter, then])
    demo.load(on_load, network, network, **AT_ONCE)
