"""Judge: the joint rate between floor and ceiling, of a run or of the faces that the page shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from facegan.api import AttributeGAN, StyleGAN
from facegan.app.mixes import Asked, Request
from facegan.app.networks import Networks
from facegan.app.sessions import Session, zipped
from facegan.app.turns import Job
from facegan.app.words import command, told
from facegan.errors import FaceganError
from facegan.evaluation.report import EvaluationReport
from facegan.files import RECORD_LIMIT, read_json
from facegan.options import Evaluate, EvaluateOptions, Generate, GenerateOptions, Mix, MixOptions, of
from facegan.plotting.rates import rates_sheet
from facegan.plotting.sheets import save_png

SHOWN, OWN = "the faces shown", "the run's own faces"
MOST_SAMPLES = 4096
NO_RUN = "The judge needs a run, which says what its attributes and data are: train one, or start the page with --runs and its folder"


@dataclass(frozen=True)
class Judged:
    """A report as pictures and words."""

    picture: Path
    words: str
    command: str
    archive: Path
    notes: tuple[str, ...] = ()


def _run(networks: Networks, run: str | None) -> str:
    if not networks.runs():
        raise FaceganError(NO_RUN)
    return networks.run(run or "")


def stored(networks: Networks, session: Session, run: str | None) -> Judged:
    """The report that `facegan evaluate` wrote into the run's folder."""
    with told():
        folder = Path(_run(networks, run)) / "evaluation"
        if not (folder / "report.json").exists():
            raise FaceganError(f"{run} has no report yet: evaluate it here, or by `facegan evaluate`")
        report = EvaluationReport.from_json(read_json(folder / "report.json", RECORD_LIMIT))
        out = session.fresh("evaluation")
        picture = out / "report.png"
        if (folder / "report.png").is_file() and not (folder / "report.png").is_symlink():
            picture.write_bytes((folder / "report.png").read_bytes())
        else:  # the bars alone: the report holds no faces
            save_png(rates_sheet(torch.zeros(0, 3, 8, 8), _none(report), report.details, Path(str(run)).name), picture)
        (out / "report.json").write_bytes((folder / "report.json").read_bytes())
        text = command("evaluate", Evaluate(source=str(run), samples=report.samples))
        return Judged(picture, _words(report), text, zipped(out, session.inside("downloads") / "report.zip"))


def _none(report: EvaluationReport) -> np.ndarray:
    return np.zeros((0, len(report.marginals) + 1))


def _words(report: EvaluationReport) -> str:
    """Every figure, where the report has all of them; the rates where it is of faces that somebody made."""
    try:
        return report.describe()
    except KeyError:
        low, high = report.joint.low or 0.0, report.joint.high if report.joint.high is not None else 1.0
        return (
            f"joint rate {report.joint.rate:.3f} [{low:.3f}, {high:.3f}], floor {report.floor:.3f}, ceiling {report.ceiling:.3f}, "
            f"{report.samples} faces"
        )


def evaluate(networks: Networks, session: Session, job: Job, run: str | None, what: str, samples: int) -> Judged:
    """Measure; for a `Worker`, which has the device."""
    source = _run(networks, run)
    given = networks.options
    if what not in (SHOWN, OWN):
        raise FaceganError(f"what is judged is {what[:40]!r}: expected {OWN!r} or {SHOWN!r}")
    if not 1 <= samples <= MOST_SAMPLES:
        raise FaceganError(f"`samples` is {samples}: expected 1 to {MOST_SAMPLES}; `facegan evaluate` takes more")
    options = Evaluate(source=source, samples=samples, device=given.device, out="evaluation")
    before, faces = "", ""
    if what == SHOWN:
        before, folder = _written(networks, session)
        options = replace(options, samples=Evaluate().samples, faces="faces" if isinstance(session.shown, Generate) else "mixes")
        faces = str(folder)
    gan: StyleGAN | AttributeGAN = networks.open(source)
    report = gan.evaluate(**of(replace(options, faces=faces), EvaluateOptions))
    text = f"{before}{command('evaluate', options)}"
    report.details["command"] = text
    out = session.fresh("evaluation")
    report.save(out)
    archive = zipped(out, session.inside("downloads") / "report.zip")
    return Judged(out / "report.png", _words(report), text, archive, tuple(job.notes))


def _written(networks: Networks, session: Session) -> tuple[str, Path]:
    """The faces shown as files, and the command that makes them."""
    if session.shown is None:
        raise FaceganError("No faces are shown yet: generate or mix some first")
    folder = session.fresh("shown")
    if isinstance(session.shown, Generate):
        networks.open(session.shown.source).generate(**of(session.shown, GenerateOptions)).save(folder)
        return command("generate", session.shown) + " && ", folder
    asked: Asked
    options: Mix
    asked, options = session.shown
    request = Request(networks, session, asked)
    request.gan.mix(**request.here(options, MixOptions)).save(folder)
    return command("mix", options) + " && ", folder
