"""The tab of a photo."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from facegan.app import photos
from facegan.app.tabs.common import (
    AT_ONCE,
    LATEST,
    LONG,
    PRIVATE,
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
from facegan.app.tabs.photo_input import PhotoInput
from facegan.app.turns import Worker

MOST_SLIDERS = 8
NO_CRITICS = "none"


def photo_tab(page: Page, tab: gr.Tab) -> None:
    """Lay it out and wire it."""
    networks = page.networks
    names = networks.styled()
    first_name = names[0] if names else None
    attributes = networks.style_names(first_name)[:MOST_SLIDERS] if first_name else []
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            network = gr.Dropdown(
                labelled(names, networks.called), value=first_name, label="Network", elem_id="photo-network", filterable=False
            )
            upload = PhotoInput(
                elem_classes="pictures",
                label="Photo",
                elem_id="photo-upload",
                sources=["upload", "webcam"],
                type="filepath",
                height=260,
                buttons=[],
                alt_text="the photo",
            )
            face = gr.Image(
                elem_classes="pictures",
                label="Face as the network is to see it",
                elem_id="photo-face",
                type="filepath",
                interactive=False,
                height=260,
                buttons=[],
                alt_text="the face cut out of the photo",
            )
            steps = gr.Slider(10, 2000, value=200, step=10, label="Steps", info="of the projection", elem_id="photo-steps", buttons=[])
            space = gr.Radio(["w", "w+"], value="w", label="Space", info="w mixes best, w+ is nearer", elem_id="photo-space")
        with gr.Column(scale=2, min_width=300):
            run, cancel = buttons("photo", "Project")
            line = status("photo")
            result = gr.Image(
                elem_classes="pictures",
                label="Projection",
                elem_id="photo-result",
                type="filepath",
                format="png",
                interactive=False,
                alt_text="the photo and its projection",
                buttons=["fullscreen"],
            )
            with gr.Group():
                sliders = [
                    gr.Slider(
                        -2,
                        2,
                        value=0,
                        step=0.05,
                        label=attributes[k] if k < len(attributes) else "attribute",
                        visible=k < len(attributes),
                        elem_id=f"photo-attribute-{k}",
                        buttons=[],
                    )
                    for k in range(MOST_SLIDERS)
                ]
            with gr.Row():
                paste = gr.Checkbox(False, label="Paste back into the photo", elem_id="photo-paste")
                critics = gr.Dropdown(
                    labelled([NO_CRITICS, *networks.with_critics()], networks.called),
                    value=NO_CRITICS,
                    label="Rated by the critics of",
                    elem_id="photo-critics",
                    filterable=False,
                )
            edited = gr.Image(
                elem_classes="pictures",
                label="Before and after",
                elem_id="photo-edited",
                type="filepath",
                format="png",
                interactive=False,
                alt_text="the photo, its projection and the edit",
                buttons=["fullscreen"],
            )
            whole = gr.Image(
                elem_classes="pictures",
                label="The photo with what the edit changed",
                elem_id="photo-pasted",
                type="filepath",
                format="png",
                interactive=False,
                visible=False,
                alt_text="the whole photo, edited",
                buttons=["fullscreen"],
            )
            text = as_command("photo")
            with gr.Row():
                save = gr.Button("Prepare the files", elem_id="photo-save", size="sm", min_width=120)
                archive = gr.DownloadButton("Download photo.zip", elem_id="photo-download", size="sm", min_width=120, interactive=False)

    @shown
    def on_upload(network: str, photo: str | None, request: gr.Request) -> Any:
        session = page.session(request)
        if not photo:
            session.photo = None
            return None, say("")
        if not photos.same(session, photo):
            photos.take(session, photo)
        found = photos.face_of(networks, session, network)
        return str(found.picture), say(found.words, found.notes)

    @shown
    def on_project(network: str, photo: str | None, space: str, steps: float, request: gr.Request) -> Iterator[Any]:
        session = page.session(request)
        if photo and not photos.same(session, photo):
            photos.take(session, photo)
        with session.job("photo", "project") as job:
            wanted = photos.Wanted(network or "", space, int(steps))
            worker = Worker(job, lambda: photos.project(networks, session, job, wanted))
            found = yield from watched(worker, lambda job: (str(job.picture) if job.picture else gr.skip(), gr.skip(), say(job.describe())))
        yield str(found.picture), found.command, say("projected", found.notes)

    @shown
    def on_edit(request: gr.Request, network: str, paste: bool, critics: str, *amounts: float) -> Any:
        session = page.session(request)
        known = networks.style_names(network)[:MOST_SLIDERS]
        moved = {name: float(amount) for name, amount in zip(known, amounts, strict=False) if amount}
        found = photos.edit(networks, session, moved, paste, "" if critics == NO_CRITICS else critics)
        picture = gr.update(value=str(found.pasted) if found.pasted else None, visible=found.pasted is not None)
        return str(found.picture), picture, found.command, say(found.words, found.notes), gr.update(interactive=False)

    @shown
    def on_edit_by_name(amounts: Any, paste: bool, critics: str, request: gr.Request) -> Any:
        moved = photos.amounts_of(amounts)
        found = photos.edit(networks, page.session(request), moved, paste, "" if critics == NO_CRITICS else critics)
        return str(found.picture), str(found.pasted) if found.pasted else None, found.command, found.drift

    @shown
    def on_save(request: gr.Request) -> Any:
        return gr.update(value=str(photos.download(page.session(request))), interactive=True)

    @shown
    def on_network(network: str, request: gr.Request) -> Any:
        page.session(request).stop("photo")  # the sliders now mean another network
        known = networks.style_names(network)[:MOST_SLIDERS]
        return [gr.update(label=known[k] if k < len(known) else "attribute", visible=k < len(known), value=0) for k in range(MOST_SLIDERS)]

    def on_open(network: str, critics: str) -> Any:
        return choices(networks.styled(), network, networks.called), choices(
            [NO_CRITICS, *networks.with_critics()], critics, networks.called
        )

    upload.change(on_upload, [network, upload], [face, line], **PRIVATE, show_progress_on=line, **QUICK)
    network.input(on_network, network, sliders, **AT_ONCE).then(
        on_upload, [network, upload], [face, line], **PRIVATE, show_progress_on=line, **QUICK
    )
    click = run.click(on_project, [network, upload, space, steps], [result, text, line], api_name="project", **LONG)
    moved = gr.on(
        [*(slider.input for slider in sliders), paste.input, critics.input],
        on_edit,
        [network, paste, critics, *sliders],
        [edited, whole, text, line, archive],
        **LATEST,
        **QUICK,
    )
    # By a program, whose edits are by name: {"bald": 0.75}
    amounts, drift = gr.JSON(label="Amounts by attribute", visible=False), gr.Number(label="Drift", visible=False)
    by_name = gr.Button("Edit", visible=False)
    by_name.click(on_edit_by_name, [amounts, paste, critics], [edited, whole, text, drift], api_name="edit", **QUICK)
    save.click(on_save, None, archive, **PRIVATE, show_progress_on=line, **QUICK)
    tab.select(on_open, [network, critics], [network, critics], **AT_ONCE)
    stoppable(page, "photo", cancel, line, [click, moved])
