"""The tab of runs."""

from __future__ import annotations

from typing import Any

import gradio as gr

from facegan.app import runs
from facegan.app.tabs.common import AT_ONCE, LATEST, Page, as_command, buttons, choices, labelled, say, shown, status, stoppable
from facegan.app.words import told

EVERY = 4.0  # seconds between two looks at a training that goes on
NOBODY = "none"
FILES: dict[str, Any] = dict(concurrency_id="files", concurrency_limit=2, show_progress="hidden")  # needs no device


def runs_tab(page: Page, tab: gr.Tab) -> None:
    """Lay it out and wire it."""
    networks = page.networks
    names = networks.runs()
    first_name = names[0] if names else None
    known = runs.figures(networks, [first_name]) if first_name else []
    with gr.Row():
        one = gr.Dropdown(labelled(names, networks.called), value=first_name, label="Run", elem_id="runs-run-name", filterable=False)
        two = gr.Dropdown(
            labelled([NOBODY, *names], networks.called), value=NOBODY, label="Beside it", elem_id="runs-other", filterable=False
        )
        chosen = gr.Dropdown(known, value=known[:3], multiselect=True, max_choices=runs.MOST_SHOWN, label="Figures", elem_id="runs-figures")
    begin, cancel = buttons("runs", "Show")
    follow = gr.Checkbox(False, label="Follow a training that goes on", elem_id="runs-follow")
    line = status("runs")
    result = gr.Image(
        elem_classes="pictures",
        label="Curves",
        elem_id="runs-result",
        type="filepath",
        format="png",
        interactive=False,
        alt_text="curves of the runs",
        buttons=["fullscreen"],
    )
    films = []
    with gr.Row():
        for number, run in ((1, one), (2, two)):
            suffix = "" if number == 1 else "-other"
            with gr.Column(min_width=300, visible=number == 1) as column:
                film = gr.Image(
                    elem_classes="pictures",
                    label="Samples" if number == 1 else "Samples beside it",
                    elem_id=f"runs-film{suffix}",
                    type="filepath",
                    format="png",
                    interactive=False,
                    alt_text="a sheet of samples",
                    buttons=["fullscreen"],
                )
                place = gr.Slider(
                    1,
                    2,
                    value=2,
                    step=1,
                    label="Picture of the film" + (" beside it" if number == 2 else ""),
                    elem_id=f"runs-slider{suffix}",
                    buttons=[],
                )
                words = gr.HTML(say(""), elem_id=f"runs-words{suffix}", elem_classes="status", padding=False)
                text = as_command("runs", *(() if number == 1 else ("other", " (beside it)")))
                films.append((run, film, place, words, text))
    beside = column
    timer = gr.Timer(EVERY, active=False)

    def one_film(run: str | None, place: float | None) -> tuple[Any, Any, str, str]:
        """Picture, slider, words, command; the newest picture where no place is given."""
        if not run or run == NOBODY:
            return None, gr.skip(), say(""), ""
        with told():
            count = len(runs.sheets(networks, run))
        at = count if place is None else min(int(place), max(1, count))
        path, words = runs.sheet(networks, run, at - 1)
        slider = gr.update(maximum=max(2, count), value=max(1, at))
        return str(path) if path else None, slider, say(words), runs.resume(networks, run)

    @shown
    def on_show(run: str, other: str, figures: list[str], request: gr.Request) -> Any:
        session, both = page.session(request), [run] + [other] * (other not in (None, NOBODY))
        with told():
            known = runs.figures(networks, both)
        kept = [name for name in figures or [] if name in known] or known[:3]
        found = runs.course(networks, session, both, kept)
        shown_ = str(found.picture), say(found.words), gr.update(choices=known, value=kept), gr.update(visible=len(both) > 1)
        return (*shown_, *one_film(run, None), *one_film(other, None))

    @shown
    def on_curves(run: str, other: str, figures: list[str], request: gr.Request) -> Any:
        found = runs.course(networks, page.session(request), [run] + [other] * (other not in (None, NOBODY)), figures or [])
        return str(found.picture), say(found.words)

    @shown
    def on_place(run: str, place: float) -> Any:
        picture, _, words, _ = one_film(run, place)
        return picture, words

    def on_open(run: str, other: str) -> Any:
        offered = networks.runs()
        return choices(offered, run, networks.called), choices([NOBODY, *offered], other, networks.called)

    everything = [result, line, chosen, beside, *(part for _, *parts in films for part in parts)]
    click = begin.click(on_show, [one, two, chosen], everything, api_name="runs", **FILES)
    switched = gr.on([one.input, two.input], on_show, [one, two, chosen], everything, **LATEST, **FILES)
    redrawn = gr.on([chosen.input, timer.tick], on_curves, [one, two, chosen], [result, line], **LATEST, **FILES)
    for run, film, place, words, _ in films:
        place.input(on_place, [run, place], [film, words], **LATEST, **FILES)
    follow.input(lambda on: gr.Timer(active=on), follow, timer, **AT_ONCE)
    tab.select(on_open, [one, two], [one, two], **AT_ONCE)
    stoppable(page, "runs", cancel, line, [click, switched, redrawn])
