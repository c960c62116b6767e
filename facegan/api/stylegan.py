"""StyleGAN2 networks: faces by seed, styles mixed, photos projected and edited."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from facegan.api.keywords import takes
from facegan.api.sharing import fetched, push_folder
from facegan.checkpoints.critics import Critics
from facegan.checkpoints.networks import STAGE, StyleGAN2Checkpoint, open_networks, refuse_other_colours, save_networks, slimmed
from facegan.checkpoints.pretrained import located
from facegan.checkpoints.run import is_run
from facegan.checkpoints.trained import TrainedRun, random_noise
from facegan.devices import AUTO, resolve_device
from facegan.errors import FaceganError
from facegan.graphs import Graphed
from facegan.models.stylegan2 import Generator, StyleGAN2Config
from facegan.options import EditOptions, EvaluateOptions, GenerateOptions, MixOptions, ProjectOptions, SearchOptions, WalkOptions
from facegan.plotting.faces import Faces
from facegan.styles.mix import Mixes, Mixing, Renderer, batch_for, chosen_recipe, distinct
from facegan.styles.refine import Refiner
from facegan.styles.store import Style, resolve
from facegan.styles.walk import frames_of, walk

if TYPE_CHECKING:
    from facegan.evaluation.mixing import SearchReport
    from facegan.evaluation.report import EvaluationReport
    from facegan.styles.edit import Edited
    from facegan.styles.project import Projected, Projector, Watch


class StyleGAN:
    """A StyleGAN2 network on a device: a run of Method B, a shipped one, or one of another project."""

    def __init__(self, networks: StyleGAN2Checkpoint, source: str, device: torch.device, cuda_graphs: str = "auto") -> None:
        self.networks, self.source, self.device, self.cuda_graphs = networks, source, device, cuda_graphs
        self.generator: Generator = networks.generator().to(device)

    @classmethod
    def from_pretrained(cls, source: str | Path, *, stage: str = "", device: str = AUTO, cuda_graphs: str = "auto") -> StyleGAN:
        """Open a network; see `facegan.load`.

        Raises:
            FaceganError: there is no such network, the file is damaged, or `stage` is given: only runs of Method A have several.
        """
        if stage not in ("", STAGE):
            raise FaceganError(f"{source} is a StyleGAN2 network: `stage` goes with a run of Method A")
        place = str(fetched(source))
        return cls(open_networks(place), place, resolve_device(device), cuda_graphs)

    @property
    def config(self) -> StyleGAN2Config:
        """Sizes and options of the network."""
        return self.generator.config

    # --- faces
    @takes(GenerateOptions, "seeds")
    def generate(self, options: GenerateOptions) -> Faces:
        """Make the faces that NVIDIA's generate.py makes of these seeds: z by `RandomState(seed)`, one at a time.

        Returns:
            The faces, float32 [N, C, R, R]; as pictures their pixels are x * 127.5 + 128, cut to whole levels.

        Raises:
            FaceganError: `label` does not fit the network, or `best` is given, which goes with a run of Method A.
        """
        if options.best:
            raise FaceganError(f"{self.source} is a StyleGAN2 network: `best` goes with a run of Method A")
        c = self._label(options.label)

        def face(z: Tensor, c: Tensor | None, noise: Tensor | None) -> Tensor:
            image: Tensor = self.generator(z, c, psi=options.truncation, noise_mode=options.noise_mode, noise=noise)
            return image

        graphed = Graphed(face, self.device, self.cuda_graphs, name="the generator")
        images = []
        with torch.no_grad():
            for seed in tqdm(options.seeds, desc="faces", unit="face", disable=None):
                z = np.random.RandomState(seed).randn(1, self.config.z_dim).astype(np.float32)
                images.append(graphed(z, c, random_noise(self.config, options.noise_mode, 1, self.device, seed)).cpu())
        return Faces(torch.cat(images), tuple(f"seed{seed:04d}" for seed in options.seeds), options.seeds, truncated=True)

    def _label(self, label: tuple[float, ...]) -> Tensor | None:
        """[1, c_dim]; None for a network without labels."""
        c_dim, given = self.config.c_dim, ",".join(f"{value:g}" for value in label)
        if not c_dim and not label:
            return None
        if not c_dim:
            raise FaceganError(f"`label` is {given}, but {self.source} knows no labels: omit it")
        if len(label) != c_dim:
            wanted = ",".join("1" * c_dim)
            raise FaceganError(f"`label` is {given!r}, {len(label)} number(s): {self.source} expects {c_dim}, such as {wanted}")
        return torch.tensor([label], dtype=torch.float32)

    # --- styles
    def styles(self, names: Any, *, library: str = "", truncation: float = 1.0) -> list[Style]:
        """Find styles by what a user calls them.

        Args:
            names: seeds ("3", "0-7"), .npz, .npy and .pt files, folders, names in `library` or beside the network, or styles themselves;
                one, or several.
            library: a folder in which names are looked up first.
            truncation: of seeds.

        Raises:
            FaceganError: one of them is unknown, or of another network.
        """
        tokens = [names] if isinstance(names, (str, Path, Style)) else list(names)
        folders = [Path(library)] * bool(library) + [located(self.source) / "styles"]
        return distinct(resolve(tokens, self.generator, folders, truncation))

    def _renderer(self, options: MixOptions | WalkOptions, batch: int = 1) -> Renderer:
        return Renderer(self.generator, options.noise_mode, batch, self.cuda_graphs)

    def _pairs(self, options: MixOptions) -> tuple[list[Style], list[Style]]:
        for name in ("rows", "cols"):
            if not getattr(options, name):
                raise FaceganError(f"`{name}` is missing: name the styles to mix, e.g. `{name}=4-7`")
        rows, cols = (self.styles(part, library=options.styles, truncation=options.truncation) for part in (options.rows, options.cols))
        return rows, cols

    @takes(MixOptions, "rows", "cols")
    def mix(self, options: MixOptions) -> Mixes:
        """Mix every row's style with every column's.

        Returns:
            The mixes, with `.images`, `.grid()` and `.save(folder)`.

        Raises:
            FaceganError: a style is unknown, the recipe is for another network, options contradict each other, or the mixes take more
                than 4 GiB: `mixing` has no limit.
        """
        return self._mixing(options).collect()

    @takes(MixOptions, "rows", "cols")
    def mixing(self, options: MixOptions) -> Mixing:
        """The same as `mix` for more faces than memory holds: nothing is made yet.

        Returns:
            What makes one batch after the other when it is iterated over, and with `.save(folder)`, `.grid()` and `.collect()`.

        Raises:
            FaceganError: as `mix`.
        """
        return self._mixing(options)

    def _mixing(self, options: MixOptions) -> Mixing:
        options.at_least(0, "batch", "refine")
        if options.critics and not options.refine:
            raise FaceganError("`critics` are asked where mixes are refined: give `refine` some steps, such as 30, or drop `critics`")
        recipe = chosen_recipe(options, self.config, located(self.source))
        if options.refine and not recipe.mask:
            advice = "name another recipe" if options.recipe else "name one by `mask`, or take `mode` regional"
            raise FaceganError(f"`refine` needs a mask, and {recipe.describe()} has none: {advice}")
        rows, columns = self._pairs(options)
        draw = self._renderer(options, options.batch or batch_for(self.config.resolution))
        return Mixing(draw, rows, columns, recipe, self._refiner(options, draw))

    def _refiner(self, options: MixOptions, draw: Renderer) -> Refiner | None:
        if not options.refine:
            return None
        run = options.critics or self.source
        if not is_run(run):
            raise FaceganError(f"`refine` asks critics, and {run} is no run of `facegan train`: name one with `critics=RUN`")
        refuse_other_colours(self.networks, self.source, "refined")
        return Refiner(draw, Critics(run, device=self.device), options.refine)

    @takes(SearchOptions, "rows", "cols")
    def search_recipe(self, options: SearchOptions, out: str | Path) -> SearchReport:
        """Search, by critics, for the recipe with which most mixes carry all attributes, and compare it with simpler ways of mixing.

        `out`: folder for recipe.json, table.md, search.json and pictures.

        Returns:
            The recipe and the table; the judge, which had no part in the choice, rates both.

        Raises:
            FaceganError: there are no critics of these attributes, or too few styles.
        """
        from facegan.evaluation.mixing import search_and_compare

        start = chosen_recipe(options, self.config, located(self.source), searching=True)
        rows, columns = self._pairs(options)
        draw = self._renderer(options, options.batch)
        return search_and_compare(options, self.source, self.networks, draw, rows, columns, start, Path(out))

    @takes(WalkOptions, "rows")
    def walk(self, options: WalkOptions, out: str | Path, fps: float = 24.0) -> Path:
        """Write a smooth loop through styles as `out`, a .gif or .mp4 of `fps` frames a second.

        Returns:
            The path of the video.

        Raises:
            FaceganError: there are fewer than two styles, the suffix is another one, or an .mp4 needs imageio-ffmpeg.
        """
        from facegan.plotting.video import check_video, write_video

        check_video(Path(out), fps)
        ws = walk(self.styles(options.rows, library=options.styles, truncation=options.truncation), options.frames)
        write_video(Path(out), frames_of(self._renderer(options), ws), fps)
        return Path(out)

    @takes(ProjectOptions, "target")
    def project(self, options: ProjectOptions, out: str | Path = "", watch: Watch | None = None) -> Projected:
        """Find the styles of photos; the same call with the same `out` resumes.

        `out`: folder for NAME.npz, NAME.png and projection.png; a temporary one where none is named.
        `watch`: called with the `Projection` after each of its steps, `.step` and `.images()`; what it raises stops the work.

        Returns:
            The styles, which `mix` takes as they are, and the pictures of them.

        Raises:
            FaceganError: none of the photos can be used; those of several that cannot are named in `.problems`.
        """
        from facegan.styles.project import project

        folder = Path(out or tempfile.mkdtemp(prefix="facegan-"))
        return project(self._projector(options), options, self.source, folder, watch)

    @takes(EditOptions, "photo")
    def edit(self, options: EditOptions, out: str | Path = "") -> Edited:
        """Add attributes to a photo, or remove them.

        `out`: folder for the projection, the edit, edit.png and edit.json; a temporary one where none is named.

        Returns:
            Photo, projection and edit, and what critics say of them.

        Raises:
            FaceganError: the photo cannot be used, or a direction is unknown.
        """
        from facegan.styles.edit import edit

        return edit(self._projector(options), options, self.source, Path(out or tempfile.mkdtemp(prefix="facegan-")))

    def _projector(self, options: ProjectOptions | EditOptions) -> Projector:
        from facegan.styles.keeping import projection_critics
        from facegan.styles.project import Projector
        from facegan.styles.projection import Settings

        settings = Settings.of(options)
        critics = projection_critics(options, self.source, self.device) if isinstance(options, ProjectOptions) else None
        keep = isinstance(options, ProjectOptions) and bool(options.keep)
        return Projector(self.networks, self.generator, self.source, settings, self.cuda_graphs, critics, keep)

    # --- the whole network
    @takes(EvaluateOptions)
    def evaluate(self, options: EvaluateOptions) -> EvaluationReport:
        """Measure a run of Method B as `AttributeGAN.evaluate` does one of Method A.

        Raises:
            FaceganError: the network is no run, which could say what it learned from.
        """
        from facegan.evaluation.evaluator import evaluate_run

        if not is_run(self.source):
            raise FaceganError(f"{self.source} is no run of `facegan train`, so nothing says what it learned from: train one to measure it")
        return evaluate_run(TrainedRun(self.source, "", self.device, self.cuda_graphs), options)

    def save_pretrained(self, folder: str | Path, *, slim: bool = False) -> Path:
        """Write model.safetensors, config.json, and the styles, masks, channels and recipe beside the network.

        `slim`: the averaged generator alone, and the discriminator in half precision.
        """
        save_networks(slimmed(self.networks) if slim else self.networks, folder)
        for name in ("styles", "masks", "channels", "recipe.json"):
            beside = located(self.source) / name
            if beside.is_dir():
                shutil.copytree(beside, Path(folder) / name, dirs_exist_ok=True)
            elif beside.exists():
                shutil.copy2(beside, Path(folder) / name)
        return Path(folder)

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload what `save_pretrained` writes to a repository of huggingface.co, made if absent; returns its address."""
        return push_folder(self.save_pretrained, repo_id, private, token)
