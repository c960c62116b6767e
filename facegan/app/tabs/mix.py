"""The tab of mixed styles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from facegan.app import mixes
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
    ticked,
    watched,
)
from facegan.app.turns import Worker


def mix_tab(page: Page, tab: gr.Tab) -> None:
    """Lay it out and wire it."""
    networks = page.networks
    names = networks.styled()
    first_name = names[0] if names else None
    styles = mixes.styles(networks, None, first_name) if first_name else []
    modes = mixes.modes(networks, None, first_name) if first_name else [mixes.BESIDE]
    top = len(mixes.sizes(networks, first_name)) - 1 if first_name else 1
    middle = (top + 1) // 2
    own, own_weight = mixes.free(modes[0])
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            network = gr.Dropdown(
                labelled(names, networks.called), value=first_name, label="Network", elem_id="mix-network", filterable=False
            )
            row_seeds = gr.Textbox("0-3", label="Rows: seeds", info="what is mixed into", elem_id="mix-rows-seeds", max_length=2000)
            row_styles = gr.CheckboxGroup(
                labelled(styles, mixes.called(networks, first_name or "")),
                label="Rows: styles",
                info="named, kept, and photos",
                elem_id="mix-rows-styles",
            )
            col_seeds = gr.Textbox("4-7", label="Columns: seeds", info="what is mixed in", elem_id="mix-cols-seeds", max_length=2000)
            col_styles = gr.CheckboxGroup(
                labelled(styles, mixes.called(networks, first_name or "")),
                label="Columns: styles",
                info="named, kept, and photos",
                elem_id="mix-cols-styles",
            )
            mode = gr.Radio(modes, value=modes[0], label="Mode", elem_id="mix-mode")
            offered = mixes.masks(networks, first_name or "")
            mask = gr.Dropdown(
                offered,
                value=mixes.REGION,
                label="Region",
                info="where the column's style goes",
                elem_id="mix-mask",
                filterable=False,
                visible=modes[0] == "regional",
            )
            with gr.Group():
                first = gr.Slider(
                    0, top, value=middle, step=1, label="Layers: first", elem_id="mix-layers-first", interactive=own, buttons=[]
                )
                last = gr.Slider(0, top, value=top, step=1, label="Layers: last", elem_id="mix-layers-last", interactive=own, buttons=[])
                words = mixes.layers_in_words(networks, first_name, middle, top) if first_name else ""
                layers = gr.HTML(say(words), elem_id="mix-layers", elem_classes="status", padding=True)
            weight = gr.Slider(
                -1,
                2,
                value=1,
                step=0.05,
                label="Weight",
                info="of the column; crossover takes all of it",
                elem_id="mix-weight",
                interactive=own_weight,
                buttons=[],
            )
            truncation = gr.Slider(0, 1.5, value=1, step=0.05, label="Truncation", info="of seeds", elem_id="mix-truncation", buttons=[])
        with gr.Column(scale=2, min_width=300):
            run, cancel = buttons("mix", "Mix")
            line = status("mix")
            result = gr.Image(
                elem_classes="pictures",
                label="Mixes",
                elem_id="mix-result",
                type="filepath",
                format="png",
                interactive=False,
                alt_text="grid of mixes",
                buttons=["fullscreen"],
            )
            text = as_command("mix")
            with gr.Row():
                save = gr.Button("Prepare the files", elem_id="mix-save", size="sm", min_width=120)
                archive = gr.DownloadButton("Download mixes.zip", elem_id="mix-download", size="sm", min_width=120, interactive=False)
            walk = _walk(page)
            search = _search(page)

    def asked(*values: Any) -> mixes.Asked:
        network, row_seeds, row_styles, col_seeds, col_styles, mode, first, last, weight, truncation, mask = values
        return mixes.Asked(
            str(network or ""),
            row_seeds or "",
            tuple(row_styles or ()),
            col_seeds or "",
            tuple(col_styles or ()),
            mode or "",
            int(first),
            int(last),
            float(weight),
            float(truncation),
            mask or "",
        )

    @shown
    def on_mix(
        network: str,
        row_seeds: str,
        row_styles: list[str],
        col_seeds: str,
        col_styles: list[str],
        mode: str,
        first: float,
        last: float,
        weight: float,
        truncation: float,
        mask: str,
        request: gr.Request,
    ) -> Any:
        state = asked(network, row_seeds, row_styles, col_seeds, col_styles, mode, first, last, weight, truncation, mask)
        mixed = mixes.mix(networks, page.session(request), state)
        where = say(mixes.layers_in_words(networks, network, first, last))
        return str(mixed.picture), mixed.command, say(mixed.recipe, mixed.notes), where, gr.update(interactive=False)

    def on_mode(mode: str) -> Any:
        layers, weight = mixes.free(mode)
        free_layers = gr.update(interactive=layers)
        return free_layers, free_layers, gr.update(interactive=weight), gr.update(visible=mode == "regional")

    def on_choice(mode: str) -> Any:
        """Under a mask the column joins every layer, unless the visitor says otherwise."""
        return gr.update(value=0) if mode == "regional" else gr.skip()

    @shown
    def on_save(request: gr.Request, *state: Any) -> Any:
        return gr.update(value=str(mixes.download(networks, page.session(request), asked(*state))), interactive=True)

    @shown
    def on_network(network: str, row_styles: list[str], col_styles: list[str], mode: str, request: gr.Request) -> Any:
        session = page.session(request)
        known, ways = mixes.styles(networks, session, network), mixes.modes(networks, session, network)
        highest, shown_as = len(mixes.sizes(networks, network)) - 1, mixes.called(networks, network)
        start = (highest + 1) // 2
        where = say(mixes.layers_in_words(networks, network, start, highest))
        limits = gr.update(maximum=highest, value=start), gr.update(maximum=highest, value=highest)
        where_to = gr.update(choices=mixes.masks(networks, network), value=mixes.REGION)
        return ticked(known, row_styles, shown_as), ticked(known, col_styles, shown_as), choices(ways, mode), *limits, where, where_to

    @shown
    def on_open(network: str, row_styles: list[str], col_styles: list[str], mode: str, critics: str, request: gr.Request) -> Any:
        session, offered = page.session(request), networks.styled()
        of_kept, session.truncation = session.truncation, None  # a kept face is mixed as it was seen
        picked, network = network, network if network in offered else (offered[0] if offered else "")
        known, ways = (mixes.styles(networks, session, network), mixes.modes(networks, session, network)) if network else ([], [])
        shown_as = mixes.called(networks, network)
        runs = choices(networks.with_critics(), critics, networks.called)
        return (
            choices(offered, picked, networks.called),
            ticked(known, row_styles, shown_as),
            ticked(known, col_styles, shown_as),
            choices(ways, mode),
            runs,
            gr.skip() if of_kept is None else gr.update(value=of_kept),
        )

    @shown
    def on_walk(
        network: str,
        row_seeds: str,
        row_styles: list[str],
        col_seeds: str,
        col_styles: list[str],
        truncation: float,
        frames: float,
        fps: float,
        file: str,
        request: gr.Request,
    ) -> Iterator[Any]:
        session = page.session(request)
        wanted = asked(network, row_seeds, row_styles, col_seeds, col_styles, "", 0, 0, 1.0, truncation, "")
        with session.job("mix", "walk") as job:
            worker = Worker(job, lambda: mixes.walk(networks, session, wanted, int(frames), float(fps), file))
            made = yield from watched(worker, lambda job: (gr.skip(), gr.skip(), gr.skip(), say(job.describe())))
        picture = str(made.video) if made.video.suffix == ".gif" else None
        yield (
            gr.update(value=picture, visible=picture is not None),
            gr.update(value=str(made.video), interactive=True),
            made.command,
            say(""),
        )

    @shown
    def on_search(
        network: str,
        row_seeds: str,
        row_styles: list[str],
        col_seeds: str,
        col_styles: list[str],
        mode: str,
        truncation: float,
        critics: str,
        pairs: float,
        request: gr.Request,
    ) -> Iterator[Any]:
        session = page.session(request)
        wanted = asked(network, row_seeds, row_styles, col_seeds, col_styles, mode, 0, 0, 1.0, truncation, "")
        with session.job("mix", "search") as job:
            worker = Worker(job, lambda: mixes.search(networks, session, wanted, critics or "", int(pairs)))
            found = yield from watched(worker, lambda job: (gr.skip(),) * 5 + (say(job.describe()),))
        pictures = [str(picture) for picture in found.pictures]
        ways = gr.update(choices=mixes.modes(networks, session, wanted.network), value=mixes.FOUND)
        yield (
            found.table,
            pictures,
            gr.update(value=str(found.archive), interactive=True),
            found.command,
            ways,
            say(found.recipe.describe()),
        )

    styled = [network, row_seeds, row_styles, col_seeds, col_styles]
    state = [*styled, mode, first, last, weight, truncation, mask]
    outputs = [result, text, line, layers, archive]
    click = run.click(on_mix, state, outputs, api_name="mix", show_progress_on=line, **QUICK)
    moving = [control.input for control in (row_styles, col_styles, mask, first, last, weight, truncation)]
    moved = gr.on([*moving, row_seeds.submit, col_seeds.submit], on_mix, state, outputs, **LATEST, show_progress_on=line, **QUICK)
    mode.change(on_mode, mode, [first, last, weight, mask], **AT_ONCE)
    chosen = mode.input(on_choice, mode, first, **AT_ONCE).then(on_mix, state, outputs, **PRIVATE, show_progress_on=line, **QUICK)
    settings = [row_styles, col_styles, mode, first, last, layers, mask]
    network.input(on_network, [network, row_styles, col_styles, mode], settings, **AT_ONCE).then(
        on_mix, state, outputs, **PRIVATE, show_progress_on=line, **QUICK
    )
    tab.select(
        on_open,
        [network, row_styles, col_styles, mode, search["critics"]],
        [network, row_styles, col_styles, mode, search["critics"], truncation],
        **AT_ONCE,
    )
    save.click(on_save, state, archive, **PRIVATE, show_progress_on=line, **QUICK)
    walking = walk["run"].click(
        on_walk,
        [*styled, truncation, walk["frames"], walk["fps"], walk["suffix"]],
        [walk["result"], walk["download"], walk["command"], line],
        api_name="walk",
        **LONG,
    )
    searching = search["run"].click(
        on_search,
        [*styled, mode, truncation, search["critics"], search["pairs"]],
        [search["table"], search["result"], search["download"], search["command"], mode, line],
        api_name="search",
        **LONG,
    )
    stoppable(page, "mix", cancel, line, [click, moved, chosen, walking, searching])


def _walk(page: Page) -> dict[str, Any]:
    """A video through rows and columns."""
    kinds = mixes.suffixes()
    with gr.Accordion("A walk through rows and columns, as a video", open=False, elem_id="mix-walk"):
        with gr.Row():
            frames = gr.Slider(
                1, 60, value=12, step=1, label="Frames", info="from each style to the next", elem_id="mix-walk-frames", buttons=[]
            )
            fps = gr.Slider(1, 60, value=24, step=1, label="Frames a second", elem_id="mix-walk-fps", buttons=[])
            suffix = gr.Radio(kinds, value=kinds[0], label="File", elem_id="mix-walk-file")
        with gr.Row():
            run = gr.Button("Make the video", elem_id="mix-walk-run", min_width=120)
            download = gr.DownloadButton("Download the video", elem_id="mix-walk-download", min_width=120, interactive=False)
        result = gr.Image(
            elem_classes="pictures",
            label="Walk",
            elem_id="mix-walk-result",
            type="filepath",
            format="gif",
            interactive=False,
            visible=False,
            alt_text="a walk through styles",
            buttons=[],
        )
        text = as_command("mix", "walk", " (walk)")
    return dict(frames=frames, fps=fps, suffix=suffix, run=run, download=download, result=result, command=text)


def _search(page: Page) -> dict[str, Any]:
    """The recipe that critics like best."""
    runs = page.networks.with_critics()
    with gr.Accordion("Search a recipe", open=False, elem_id="mix-search"):
        gr.Markdown("Rows carry attribute 1, columns attribute 2. The critics of a run choose; the judge, which had no part in it, rates.")
        with gr.Row():
            critics = gr.Dropdown(
                labelled(runs, page.networks.called),
                value=runs[0] if runs else None,
                label="Critics of",
                elem_id="mix-search-critics",
                filterable=False,
            )
            pairs = gr.Slider(
                8, 512, value=64, step=8, label="Pairs", info="to search with, and to report on", elem_id="mix-search-pairs", buttons=[]
            )
        with gr.Row():
            run = gr.Button("Search a recipe", elem_id="mix-search-run", min_width=120)
            download = gr.DownloadButton("Download search.zip", elem_id="mix-search-download", min_width=120, interactive=False)
        table = gr.Markdown(elem_id="mix-search-table")
        result = gr.Gallery(
            elem_classes="pictures",
            label="Mixes by the recipe found, and by others",
            elem_id="mix-search-result",
            columns=1,
            allow_preview=False,
            object_fit="contain",
            height="auto",
            interactive=False,
            buttons=[],
        )
        text = as_command("mix", "search", " (search)")
    return dict(critics=critics, pairs=pairs, run=run, download=download, table=table, result=result, command=text)
