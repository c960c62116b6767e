"""The loop: resume, step, log, snapshot, leave in good order. It knows stages, not methods."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypedDict

import torch
from torch import Tensor
from tqdm.auto import tqdm

from facegan.checkpoints import checkpoint
from facegan.checkpoints.lists import warn_of_damage
from facegan.errors import FaceganError, Interrupted
from facegan.plotting.sheets import save_png, sheet
from facegan.schema import Range, checked
from facegan.training.events import Events
from facegan.training.interruption import Interruption
from facegan.training.stage import Context, Stage

log = logging.getLogger("facegan.train")


class _Progress(TypedDict):
    """What every checkpoint's state.json says."""

    step: Annotated[int, Range(0)]
    metrics_bytes: Annotated[int, Range(0)]
    seconds: Annotated[float, Range(0)]
    waited: Annotated[float, Range(0)]
    terms: tuple[dict[str, float], dict[str, int]]  # sums of the loss terms since the last row, and how many
    extra: dict[str, Any]  # of the stage


class Terms:
    """Sums of loss terms on the device; one transfer a row of metrics, none a step."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}  # of the terms in `sums`, in their order; 0: not since the last row
        self.sums = torch.zeros(0, dtype=torch.float64)
        self._places: dict[tuple[str, ...], Tensor] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        """Three small launches however many terms there are; they may be overwritten afterwards."""
        values = torch.stack([value.detach() for value in terms.values()]).double()
        new = dict.fromkeys((name for name in terms if name not in self.counts), 0)
        if new:
            self.counts |= new
            self.sums = torch.cat([self.sums.to(values.device), values.new_zeros(len(new))])
        self.sums.index_add_(0, self._places_of(tuple(terms), values.device), values)
        for name in terms:
            self.counts[name] += 1

    def _places_of(self, names: tuple[str, ...], device: torch.device) -> Tensor:
        """Where in `sums` they are; sent to the device once."""
        if names not in self._places:
            order = list(self.counts)
            self._places[names] = torch.tensor([order.index(name) for name in names], device=device)
        return self._places[names]

    def means(self, context: Context) -> dict[str, float]:
        """Means since the last call, over all processes; empties the sums."""
        means = {name: total / self.counts[name] for name, total in self.totals(context).items()}
        self.sums.zero_()
        self.counts = dict.fromkeys(self.counts, 0)
        return means

    def totals(self, context: Context) -> dict[str, float]:
        """The sums so far, averaged over all processes."""
        if not any(self.counts.values()):
            return {}
        values = context.accelerator.reduce(self.sums.to(context.device, copy=True), reduction="mean").tolist()
        return {name: total for (name, count), total in zip(self.counts.items(), values, strict=True) if count}

    def restore(self, totals: dict[str, float], counts: dict[str, int], device: torch.device) -> None:
        """Go on from what `totals` and `counts` were when a checkpoint was written: a resumed row equals an undisturbed one."""
        self.counts = {name: count for name, count in counts.items() if count}
        self.sums = torch.tensor([totals[name] for name in self.counts], dtype=torch.float64, device=device)
        self._places = {}


def train(context: Context, stages: Iterable[tuple[str, Callable[[], Stage]]]) -> None:
    """Run every stage that has not ended yet. Raises Interrupted after saving when a signal came."""
    events = Events(context.folder.root, context.config.to_json())
    try:
        _train(context, stages, events)
    finally:
        events.close()


def _train(context: Context, stages: Iterable[tuple[str, Callable[[], Stage]]], events: Events) -> None:
    folder = context.folder
    offset = 0
    for name, build in stages:
        if folder.finished(name) and name not in folder.extended:
            offset = folder.metadata(name)["metrics_bytes"]
            if context.accelerator.is_main_process:
                folder.tidy(name)
                warn_of_damage(folder.root, name, folder.metadata(name))
            continue
        context.seed_networks(name)
        stage = build()
        StageRun(context, stage, events).run(offset)
        stage.release()
        context.shared.share()
        offset = folder.metrics_bytes()


class StageRun:
    """One stage from its newest checkpoint to its end."""

    def __init__(self, context: Context, stage: Stage, events: Events) -> None:
        self.context, self.stage, self.config, self.events = context, stage, context.config, events
        self.main = context.accelerator.is_main_process
        every = self.config.snapshot_every or min(stage.steps_unsaved, math.ceil(stage.steps / 20))
        self.snapshot_every = max(1, every)
        self.terms = Terms()
        self.seconds = self.waited = 0.0  # over all sittings of this stage

    def run(self, metrics_offset: int) -> None:
        step = self._resume(metrics_offset)
        self._agree(step)
        if self.main:
            ids = self.context.data.table.ids
            self.context.folder.write_ids(self.stage.name, [ids[index] for index in self.stage.used])
        bar = tqdm(total=self.stage.steps, initial=step, desc=self.stage.title, unit="step", disable=not self.main or None)
        with Interruption() as interruption, bar:
            ended, signum = step >= self.stage.steps, 0
            if ended:
                self._log(step, bar)  # what its last snapshot still had to say
            while not ended:
                self._timed_step(step)
                step += 1
                bar.update()
                ended = self.stage.after_step(step) or step >= self.stage.steps
                if step % self.config.log_every == 0 or ended:
                    self._log(step, bar)
                signum = interruption.agreed(self.context, step, ended)
                if (step % self.snapshot_every == 0 or signum) and not ended:
                    self._snapshot(step)
                if signum and not ended:
                    raise Interrupted(signum, self.stage.name, step)
        self._finish(step)
        if signum:
            raise Interrupted(signum, self.stage.name, step)

    def _agree(self, step: int) -> None:
        """Refuse to train networks that are not alike on all processes, as where their files are not."""
        if self.context.peers.world > 1:
            digest = checkpoint.digest(self.stage.weights())
            self.context.peers.agree(f"{step} {digest}", f"would begin {self.stage.name} with another step or other weights")

    def _timed_step(self, step: int) -> None:
        start, waited = time.perf_counter(), self.context.clock.seconds
        self.terms.add(self.stage.step(step))
        self.seconds += time.perf_counter() - start
        self.waited += self.context.clock.seconds - waited

    def _resume(self, metrics_offset: int) -> int:
        found = self.context.folder.resumable(self.stage.name)
        if found is None:
            metadata: dict[str, Any] = {"step": 0, "metrics_bytes": metrics_offset, "seconds": 0.0, "waited": 0.0, "terms": [{}, {}]}
        else:
            path, tensors, metadata = found
            with checkpoint.restoring(path):
                metadata = checked(metadata, _Progress, checkpoint.METADATA)
                self.stage.load_state(tensors, metadata)
            log.info("%s: resumed at step %d of %d", self.stage.name, metadata["step"], self.stage.steps)
        self.seconds, self.waited = metadata["seconds"], metadata["waited"]
        totals, counts = metadata["terms"]
        self.terms.restore(totals, counts, self.context.device)
        self.context.accelerator.wait_for_everyone()
        if self.main:
            if found:
                self.context.folder.forget_after(self.stage.name, found[0])
            self.context.folder.rewind_metrics(metadata["metrics_bytes"])
            self.events.begin(self.context.folder.metrics_rows())
        return metadata["step"]

    def _log(self, step: int, bar: Any) -> None:
        means = self.terms.means(self.context)
        self._refuse_broken(means, step)
        if not means or not self.main:
            return
        images = step * self.config.batch
        rate = images / max(self.seconds, 1e-9)
        row = {"stage": self.stage.name, "step": step, "epoch": images / self.context.epoch_images, **means}
        row |= {"seconds": self.seconds, "images_per_second": rate, "data_wait": self.waited / max(self.seconds, 1e-9)}
        self.context.folder.append_metrics(row)
        self.events.add(row)
        bar.set_postfix({name: f"{value:.3f}" for name, value in means.items() if name.endswith("/loss")})

    def _refuse_broken(self, terms: dict[str, float], step: int) -> None:
        bad = [name for name, value in terms.items() if not math.isfinite(value)]
        if bad:
            kept = self.context.folder.newest_path(self.stage.name)
            state = f"the last good state is kept in {kept}" if kept else f"no state of {self.stage.name} had been saved yet"
            raise FaceganError(
                f"{self.stage.name}: {' and '.join(bad)} became {terms[bad[0]]} by step {step}; {state}: try a smaller `lr` or a larger "
                "`r1_gamma` with a new `out`"
            )

    def _snapshot(self, step: int) -> None:
        totals = self.terms.totals(self.context)
        self._refuse_broken(totals, step)  # what is about to replace the last good state must be good itself
        if self.main:
            self._picture(step)
            self._save(step, totals)
        self.context.accelerator.wait_for_everyone()

    def _save(self, step: int, totals: dict[str, float]) -> None:
        tensors, metadata = self.stage.state()
        metadata |= {"seconds": self.seconds, "waited": self.waited, "terms": [totals, self.terms.counts]}
        self.context.folder.save_checkpoint(self.stage.name, step, tensors, metadata, self.config.keep_checkpoints)

    def _picture(self, step: int) -> None:
        images = self.stage.samples()
        if images is not None:
            save_png(sheet(images), self.context.folder.root / "samples" / f"{self.stage.name}-{step:07d}.png")

    def _finish(self, step: int) -> None:
        if not self.main:
            return
        self._picture(step)
        if self.stage.goes_on:
            self._save(step, {})
        tensors, metadata = self.stage.export()
        metadata |= {"steps": step, "images": step * self.config.batch, "seconds": self.seconds}
        self.context.folder.finish(self.stage.name, tensors, metadata, keep=int(self.stage.goes_on))
        waited = self.waited / max(self.seconds, 1e-9)
        log.info("%s: %d steps in %.0f s, %.1f %% of it waiting for data", self.stage.name, step, self.seconds, 100 * waited)
        if self.stage.summary():
            log.info("%s: %s", self.stage.name, self.stage.summary())
