"""Photos to styles, in batches, in a folder where the same call resumes."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from facegan.alignment.placement import cutter, warn_of_misplaced
from facegan.checkpoints import checkpoint
from facegan.checkpoints.critics import Critics
from facegan.checkpoints.networks import StyleGAN2Checkpoint, refuse_other_colours
from facegan.checkpoints.run import RunFolder, write_json
from facegan.config import TrainConfig
from facegan.data.photos import Target, labelled_faces, read_photos
from facegan.errors import FaceganError, Interrupted
from facegan.files import parse_json, quoted
from facegan.locks import held
from facegan.memory import out_of_memory
from facegan.models.stylegan2 import Generator, StyleGAN2Config
from facegan.options import Align, ProjectOptions
from facegan.pixels import to_float
from facegan.plotting.comparison import comparison
from facegan.plotting.sheets import save_png, to_pil
from facegan.schema import Range, checked
from facegan.styles.keeping import REPORT, report_scores
from facegan.styles.perceptual import Keeping, Perceptual, perceptual_for
from facegan.styles.projection import MOST_DISTANT, Projection, Settings, latent_distance, w_statistics
from facegan.styles.store import SUFFIX, Style, read_array, read_styles, write_style
from facegan.training.interruption import Interruption

log = logging.getLogger("facegan.styles")

SAVE_EVERY = 100  # steps
UNFINISHED = "unfinished"  # the folder of an interrupted batch
LONGEST_METADATA = 1 << 16  # bytes
SHOWN = 24  # rows of the picture, at most
KEEP_FACES = 16  # of the network, whose distances say what a lost score costs


@dataclass(frozen=True, eq=False)
class Projected:
    """Photos as styles, in the folder that holds their files; an iterable of `Style`, as mixing takes them."""

    folder: Path
    styles: tuple[Style, ...]
    photos: Tensor  # float32 [N, 3, R, R] in [-1, 1], at most SHOWN of them
    tensors: Tensor  # [N, 3, R, R]: what the network makes of the styles, at most SHOWN
    problems: tuple[str, ...]  # a sentence for each photo that had to be left out

    def __iter__(self) -> Iterator[Style]:
        return iter(self.styles)

    def __len__(self) -> int:
        return len(self.styles)

    @property
    def images(self) -> list[Image.Image]:
        """The projections as pictures."""
        return [to_pil(image) for image in self.tensors]

    def comparison(self) -> Image.Image:
        """Each photo, its projection, and their difference: black where there is none."""
        difference = (self.tensors.clamp(-1, 1) - self.photos).abs() - 1
        images = torch.stack([self.photos, self.tensors, difference], dim=1)
        return comparison(images, ("photo", "projected", "difference"), [style.name for style in self.styles[:SHOWN]])


# Called with the projection after each of its steps; what it raises stops the projection, which the same call resumes from its last save.
Watch = Callable[[Projection], None]


def project(
    projector: Projector, options: ProjectOptions, network: str, out: Path, watch: Watch | None = None, found: Sequence[Target] = ()
) -> Projected:
    """Project what is asked for into `out`, where the same call resumes; the `problems` of photos left out are logged.

    `found`: the photos' faces, where they were looked for before.
    """
    options.at_least(1, "steps", "batch", "num")
    targets, problems = (list(found), []) if found else find_targets(options, network, projector.config.resolution)
    targets, others = projector.acceptable(targets, out)
    problems += others
    if not targets:
        raise left_out(problems, len(problems))
    for problem in problems:
        log.warning("left out: %s", problem)
    projector.run(targets, out, options.batch, watch)
    return write_report(projector, targets, problems, out)


def left_out(problems: Sequence[str], wanted: int) -> FaceganError:
    """What is raised where photos had to be left out."""
    return FaceganError(f"{len(problems)} of {wanted} photos left out: {'; '.join(problems[:3])}{' ...' if problems[3:] else ''}")


def find_targets(options: ProjectOptions, network: str, resolution: int) -> tuple[list[Target], list[str]]:
    """Photos, or faces of one attribute; of the data that the network learned from, where it is a run and nothing else is said."""
    if bool(options.target) == bool(options.attribute):
        raise FaceganError("expected either `target=PHOTO` ... or `attribute=NAME`, the faces of one attribute in a labelled data set")
    if options.target:
        return find_photos(options.target, resolution, options.align)
    try:
        config = RunFolder(network).config()
    except FaceganError:
        if not options.data:
            raise FaceganError(f"`attribute` goes with `data`, as {network} is no run that could say which") from None
        config = TrainConfig(data=options.data, out="")
    else:
        refuse_other_attributes(options, network, config)
    faces = labelled_faces(
        options.data or config.data, options.attributes or config.attributes, options.attribute, resolution, options.num,
        num=config.num, data_seed=config.seed, seed=options.seed, minimum=config.minimum_images,
    )  # fmt: skip
    return faces, []


def find_photos(paths: Sequence[str], resolution: int, align: Align) -> tuple[list[Target], list[str]]:
    """The photos, their largest faces cut out as `align` says, and a sentence for each that cannot be used."""
    cut = cutter(align, resolution)
    targets, problems = read_photos(paths, resolution, cut)
    if cut:
        cut.tell()
    else:
        warn_of_misplaced([(target.source, target.image) for target in targets])
    return targets, problems


def refuse_other_attributes(options: ProjectOptions, network: str, config: TrainConfig) -> None:
    """Of other attributes than the run's, a face of one attribute may carry all of the run's."""
    same_data = not options.data or Path(options.data).resolve() == Path(config.data).resolve()
    if same_data and options.attributes and {*options.attributes} != {*config.attributes}:
        raise FaceganError(
            f"`attributes` is {','.join(options.attributes)}: {network} held out the faces that carry all of "
            f"{','.join(config.attributes)}, some of which these would let in; omit `attributes`, or name a run trained for these"
        )


class Projector:
    """A network with its perceptual distance, and folders of styles that are made with them."""

    def __init__(
        self, networks: StyleGAN2Checkpoint, generator: Generator, network: str, settings: Settings, cuda_graphs: str = "auto",
        critics: Critics | None = None, keep: bool = False,
    ) -> None:  # fmt: skip
        """`generator`: that of `networks`, on its device; `network`: how messages call it; `critics`: who say what a style still carries,
        and with `keep` have a part in the distance."""
        self.critics = critics
        self.generator, self.device = generator, generator.mapping.w_avg.device
        self.cuda_graphs, self.settings = cuda_graphs, settings
        refuse_other_colours(networks, network, "projected into")
        self.perceptual: Perceptual = perceptual_for(networks.discriminator(), self.device)
        if keep and critics:
            self.perceptual = Keeping(self.perceptual, critics, self._own_faces())
        self.conditions = {"network": fingerprint(self.generator), **asdict(settings), "perceptual": self.perceptual.description}

    @torch.no_grad()
    def _own_faces(self) -> Tensor:
        """Some faces of the network, always the same."""
        z = np.random.RandomState(0).randn(KEEP_FACES, self.config.z_dim).astype(np.float32)
        c = torch.eye(self.config.c_dim)[torch.arange(KEEP_FACES) % self.config.c_dim].to(self.device) if self.config.c_dim else None
        faces: Tensor = self.generator(torch.from_numpy(z).to(self.device), c, psi=0.7, noise_mode="const")
        return faces

    @cached_property
    def statistics(self) -> tuple[Tensor, Tensor]:
        """The mean style and its spread, `w_statistics`."""
        return w_statistics(self.generator)

    @property
    def config(self) -> StyleGAN2Config:
        return self.generator.config

    def acceptable(self, targets: Sequence[Target], out: Path) -> tuple[list[Target], list[str]]:
        """Those whose files in `out` are absent or their own; and a sentence for each of the others: no style is overwritten."""
        mine, problems = [], []
        for target in targets:
            path = out / f"{target.name}{SUFFIX}"
            other = self._difference(path, target) if path.exists() else ""
            if other:
                problems.append(f"{target.source} would overwrite {path}, made {other}; name another `out`, or remove that file")
            else:
                mine.append(target)
        return mine, problems

    def _difference(self, path: Path, target: Target) -> str:
        """How the style in that file was made otherwise than this command would; "" if it was not."""
        try:
            metadata = read_metadata(path)
        except FaceganError:
            return "by another command"
        ours = {"photo": target.digest, **self.conditions}
        return ", ".join(f"with {name} {quoted(metadata[name])}, not {value}" for name, value in ours.items() if metadata[name] != value)

    def run(self, targets: Sequence[Target], out: Path, batch: int, watch: Watch | None = None) -> None:
        """Make the styles that `out` lacks. Where memory does not suffice the batch is halved, which changes no style.

        Raises FaceganError where another process projects into `out`.
        """
        log.info("perceptual distance: %s", self.perceptual.description)
        with held(out):
            self._run(targets, out, batch, watch)

    def _run(self, targets: Sequence[Target], out: Path, batch: int, watch: Watch | None) -> None:
        for leftover in out.glob(f".{UNFINISHED}.*"):  # of interrupted saves; nothing else in a folder that the user names
            shutil.rmtree(leftover, ignore_errors=True)
        pending = [target for target in targets if not (out / f"{target.name}{SUFFIX}").exists()]
        if len(pending) < len(targets):
            log.info("%d of %d are done already", len(targets) - len(pending), len(targets))
        begun = self._interrupted(targets, out)
        batches = [begun] * bool(begun) + _chunks([target for target in pending if target not in begun], batch)
        while batches:
            now = batches.pop(0)
            if self._fits(now, out, watch):
                continue
            if len(now) == 1:
                raise FaceganError(
                    f"a single projection at {self.config.resolution} px does not fit in memory; free some, or use a smaller network"
                )
            log.warning("a batch of %d does not fit in memory: continuing with %d", len(now), len(now) // 2)
            batches = _chunks([target for part in (now, *batches) for target in part], len(now) // 2)

    def _fits(self, targets: Sequence[Target], out: Path, watch: Watch | None) -> bool:
        """`_batch`, unless memory runs out."""
        try:
            self._batch(targets, out, watch)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        else:
            return True
        torch.cuda.empty_cache()  # now that the error, and with it every tensor of the attempt, is gone
        return False

    def _interrupted(self, targets: Sequence[Target], out: Path) -> list[Target]:
        """The batch that `out` holds half done, if it is of these photos."""
        if not (out / UNFINISHED).exists():
            return []
        metadata = checked(checkpoint.load_metadata(out / UNFINISHED), _Unfinished, out / UNFINISHED / checkpoint.METADATA)
        known = {target.digest: target for target in targets}
        if metadata["conditions"] == self.conditions and all(photo in known for photo in metadata["photos"]):
            return [known[photo] for photo in metadata["photos"]]
        log.warning("%s is of other photos or settings, and starts again", out / UNFINISHED)
        return []

    def _batch(self, targets: Sequence[Target], out: Path, watch: Watch | None) -> None:
        photos = [target.digest for target in targets]
        projection = Projection(self.generator, self.perceptual, self.images(targets), photos, self.settings, self.cuda_graphs)
        record = {"conditions": self.conditions, "photos": photos}
        if (out / UNFINISHED).exists():
            tensors, metadata = checkpoint.load(out / UNFINISHED)
            if {name: metadata[name] for name in record} == record:
                with checkpoint.restoring(out / UNFINISHED):
                    projection.load_state(tensors, checked(metadata, _Unfinished, checkpoint.METADATA))
        steps = self.settings.steps
        title = targets[0].name if len(targets) == 1 else f"{targets[0].name} ... {targets[-1].name}"
        with Interruption() as interruption, tqdm(total=steps, initial=projection.step, desc=title, unit="step", disable=None) as bar:
            while projection.step < steps:
                distances = projection.advance()
                if bar.update() or projection.step == steps:  # as often as the bar is drawn: asking the device makes it wait
                    bar.set_postfix(distance=f"{distances.mean().item():.4f}", refresh=False)
                if interruption.signum or projection.step % SAVE_EVERY == 0:
                    tensors, metadata = projection.state()
                    checkpoint.save(out / UNFINISHED, tensors, {**metadata, **record})
                if watch:
                    watch(projection)
                if interruption.signum:
                    raise Interrupted(interruption.signum, "a projection", projection.step)
        self._write(targets, projection, out)
        if (out / UNFINISHED).exists():
            shutil.rmtree((out / UNFINISHED).rename(out / f".{UNFINISHED}.old"))  # renamed first: never a half of it

    def _write(self, targets: Sequence[Target], projection: Projection, out: Path) -> None:
        distances, images = projection.distances().tolist(), projection.images()
        for row, target in enumerate(targets):
            metadata = {
                "source": target.source, "photo": target.digest, **self.conditions,
                "start": projection.start[row].item(), "distance": distances[row],
            }  # fmt: skip
            save_png(to_pil(images[row]), out / f"{target.name}.png")
            noise = projection.noise[row].detach().cpu().numpy()[None]
            text = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
            write_style(out / f"{target.name}{SUFFIX}", projection.styles()[row], noise=noise, facts=text)

    def images(self, targets: Sequence[Target]) -> Tensor:
        """[N, 3, R, R] in [-1, 1], on the network's device."""
        return to_float(np.stack([target.image for target in targets]), self.device)

    @torch.no_grad()
    def projected(self, path: Path) -> tuple[Tensor, Tensor, Tensor]:
        """A style of `run`: w [1, num_ws, w_dim], its noise [1, num_noise], and the image [1, 3, R, R] of both."""
        w = read_styles(path, self.config)[0].w[None].to(self.device)
        noise = torch.from_numpy(read_array(path, "noise")).to(self.device)
        return w, noise, self.generator.synthesis(w, noise=noise)

    def flag_outliers(self, names: Sequence[str], ws: Tensor) -> list[float]:
        """The `latent_distance` of styles [N, num_ws, w_dim]; a warning for each that a face hardly has."""
        found: list[float] = latent_distance(self.generator, ws.to(self.device), self.statistics).tolist()
        for name, away in zip(names, found, strict=True):
            if away > MOST_DISTANT[self.settings.space]:
                told = "%s is %.1f times as far from the mean face as this network's own faces: is it one upright, aligned face?"
                log.warning(told + " `facegan data align` cuts such out of photos", name, away)
        return found


def _chunks(targets: Sequence[Target], size: int) -> list[list[Target]]:
    return [list(targets[start : start + size]) for start in range(0, len(targets), size)]


def read_metadata(path: Path) -> dict[str, Any]:
    """How a style was projected; raises FaceganError where it was not."""
    text = read_array(path, "facts").astype(np.uint8)
    if text.size > LONGEST_METADATA:
        raise FaceganError(f"{path}: facts have {text.size} bytes; expected at most {LONGEST_METADATA}.")
    metadata: dict[str, Any] = checked(parse_json(text.tobytes(), f"{path}: facts"), StyleMetadata, f"{path}: facts")
    return metadata


class StyleMetadata(TypedDict):
    """How a style was projected."""

    source: str
    photo: str  # the digest of its pixels
    network: str  # a fingerprint
    space: str
    steps: int
    seed: int
    perceptual: str
    start: float  # distance at the mean face
    distance: float


class _Unfinished(TypedDict):
    """Of an interrupted batch."""

    conditions: dict[str, Any]
    photos: list[str]
    step: Annotated[int, Range(0)]


def fingerprint(generator: Generator) -> str:
    """Of its weights: styles of one network mean nothing to another."""
    digest = hashlib.sha256(json.dumps(generator.config.to_json()).encode())
    for name, value in generator.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def write_report(projector: Projector, targets: Sequence[Target], problems: Sequence[str], out: Path) -> Projected:
    """projection.json of all targets, projection.png of the first."""
    files = [out / f"{target.name}{SUFFIX}" for target in targets]
    names = [target.name for target in targets]
    styles = tuple(read_styles(file, projector.config)[0] for file in files)
    remote = projector.flag_outliers(names, torch.stack([style.w for style in styles]))
    rows = [
        {"name": target.name, **read_metadata(file), "latent_distance": away, "square": target.place and target.place.to_json()}
        for target, file, away in zip(targets, files, remote, strict=True)
    ]
    if projector.critics:
        scores = [(projector.critics(projector.images([target])), projector.critics(projector.projected(file)[2]))
                  for target, file in zip(targets, files, strict=True)]  # fmt: skip
        photo_scores, style_scores = (torch.cat(each, dim=1) for each in zip(*scores, strict=True))
        report_scores(projector.critics.attributes, photo_scores, style_scores, rows)
    write_json(out / REPORT, {"targets": rows, "left_out": list(problems)})
    photos = projector.images(targets[:SHOWN]).cpu()
    images = torch.cat([projector.projected(file)[2].cpu() for file in files[:SHOWN]])
    projected = Projected(out, styles, photos, images, tuple(problems))
    save_png(projected.comparison(), out / "projection.png")
    start, end = (sum(row[key] for row in rows) / len(rows) for key in ("start", "distance"))
    log.info("mean distance %.4f, from %.4f at the mean face", end, start)
    return projected
