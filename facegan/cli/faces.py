"""`facegan generate`, `evaluate`, `restore`, `convert`: networks are used, measured and exchanged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from facegan import options as o
from facegan.cli.command import Command
from facegan.errors import FaceganError

GENERATE_EXAMPLES = """examples:
  facegan generate runs/mine --seeds 0-63 --best 16 --out faces
  facegan generate ffhq.pkl --seeds 85,265,297 --truncation 0.7 --out faces      (the faces that its own code makes of these seeds)"""

EVALUATE_EXAMPLES = f"""examples:
  facegan evaluate runs/demo/method_a                         (joint rate between floor and ceiling, quality, diversity, what else changes)
  facegan evaluate runs/demo/method_a --restore {o.RESTORER}  (does restoration shave beards?)
  facegan evaluate runs/restore                               (PSNR of restored faces, beside Lanczos and non-local means)
  facegan evaluate GPEN-BFR-512.pth --data faces.zip
  torchrun --nproc_per_node 4 -m facegan.cli evaluate runs/large --samples 50000"""

RESTORE_EXAMPLES = f"""examples:
  facegan restore old-photos/ --out restored                                   (Lanczos and mild sharpening: no weights, no new detail)
  facegan restore small.png --weights runs/restore --out restored              (a run of `train --method restore`)
  facegan restore faces/ --weights GPEN-BFR-512.pth --out restored             (official weights that you have; none of their code is run)
  facegan restore --from-run runs/demo/method_a --num 64 --weights {o.RESTORER} --out restored
  facegan restore family.jpg --faces all --weights GPEN-BFR-512.pth --out restored                 (each face of a photo, by facegan[align])
DIR/NAME.png is written for every NAME.*: the face, or the whole photograph with its faces restored; and DIR/before-after.png."""

CONVERT_EXAMPLES = """examples:
  facegan convert ffhq.pkl networks/ffhq          (then: facegan mix --network networks/ffhq ...)
  facegan convert runs/styles styles.pt           (for programs that read rosinality's checkpoints)
  facegan convert runs/styles shared --slim       (half the size, to pass on)
  facegan convert runs/first start --slim         (of Method A: then facegan train --pretrain-from start ..., on any faces)"""


def run_generate(values: dict[str, Any]) -> None:
    """Make faces and write them."""
    from facegan.api import load

    options = o.Generate(**values)
    gan = load(options.source, stage=options.stage, device=options.device, cuda_graphs=options.cuda_graphs)
    print(gan.generate(**o.of(options, o.GenerateOptions)).save(options.out))


def run_evaluate(values: dict[str, Any]) -> None:
    """Measure, print the figures, write report and pictures."""
    from facegan.api import load, load_restorer
    from facegan.checkpoints.restorers import is_restorer
    from facegan.devices import resolve_device
    from facegan.evaluation.processes import is_main, join

    options = o.Evaluate(**values)
    join(resolve_device(options.device))
    restorer = is_restorer(options.source)
    if restorer and options.stage:
        raise FaceganError(f"{options.source} is a restorer: `stage` goes with generators")
    beside = f"evaluation-{options.stage}" if options.stage else "evaluation"
    folder = Path(options.out or (Path(options.source) / beside if Path(options.source).is_dir() else beside))
    network = (
        load_restorer(options.source, device=options.device)
        if restorer
        else load(options.source, stage=options.stage, device=options.device)
    )
    folder.mkdir(parents=True, exist_ok=True)  # before minutes of work
    report = network.evaluate(**o.of(options, o.EvaluateOptions))
    if is_main():
        report.save(folder)
        print(f"{report.describe()}\n{folder / 'report.png'}")


def run_restore(values: dict[str, Any]) -> None:
    """Restore files or a run's faces into a folder."""
    from facegan.api.sharing import fetched
    from facegan.restore.restorer import restore

    options = o.Restore(**values)
    print(restore(replace(options, weights=str(fetched(options.weights)))))


def run_convert(values: dict[str, Any]) -> None:
    """Read a network and write it in another form."""
    from facegan.checkpoints.convert import convert

    options = o.Convert(**values)
    print(convert(options.source, options.out, options.slim, options.force))


COMMANDS = {
    "generate": Command(o.Generate, run_generate, GENERATE_EXAMPLES),
    "evaluate": Command(o.Evaluate, run_evaluate, EVALUATE_EXAMPLES),
    "restore": Command(o.Restore, run_restore, RESTORE_EXAMPLES),
    "convert": Command(o.Convert, run_convert, CONVERT_EXAMPLES),
}
