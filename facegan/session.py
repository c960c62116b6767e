"""From a configuration to a finished run: processes, data, folder, loop."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import ProjectConfiguration

from facegan.alignment.placement import SEEN, warn_of_misplaced
from facegan.checkpoints.run import RunFolder
from facegan.config import TrainConfig
from facegan.data.attributes import group, resolve
from facegan.data.faces import FaceData, open_faces, synthetic_seed
from facegan.data.limits import Limits
from facegan.data.splits import split
from facegan.devices import resolve_device
from facegan.errors import FaceganError
from facegan.graphs import wanted
from facegan.memory import out_of_memory
from facegan.methods import METHODS
from facegan.randomness import Randomness, Shard
from facegan.training.batches import DataClock
from facegan.training.loop import train
from facegan.training.stage import Context, Stages

log = logging.getLogger("facegan.train")


def accelerator_for(config: TrainConfig) -> Accelerator:
    # Buffers (masks, the merge) are equal on all ranks by construction; broadcasting them would only cost time.
    unused = METHODS[config.method].unused_parameters(config)
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=unused)
    return Accelerator(
        cpu=resolve_device(config.device).type == "cpu",
        mixed_precision="no",  # `Stage.arithmetic` casts: Accelerate would patch every forward, R1's too
        log_with="tensorboard",
        project_config=ProjectConfiguration(project_dir=config.out, logging_dir=config.out),
        kwargs_handlers=[ddp],
    )


def load_faces(config: TrainConfig, accelerator: Accelerator | None = None) -> FaceData:
    """The data of a run; with several processes the first one decodes and the others find the cache."""
    how: dict[str, Any] = dict(num=config.num, seed=config.seed, limits=Limits.of(config))
    if accelerator is None:
        return open_faces(config.data, config.resolution, **how)
    with accelerator.main_process_first():
        return open_faces(config.data, config.resolution, progress=accelerator.is_main_process, **how)


def make_context(config: TrainConfig, accelerator: Accelerator) -> Context:
    share = 8 * accelerator.num_processes  # phase 2 divides half a batch into quarters
    if config.batch % share:
        raise FaceganError(f"`batch` is {config.batch}: expected a multiple of {share} with {accelerator.num_processes} process(es)")
    data = load_faces(config, accelerator)
    groups = group(data.table, resolve(config.attributes, data.table), minimum=config.minimum_images)
    shard = Shard(accelerator.process_index, accelerator.num_processes)
    return Context(
        config=config,
        folder=RunFolder(config.out),
        data=data,
        groups=groups,
        split=split(data.identities, groups),
        accelerator=accelerator,
        randomness=Randomness(config.seed, shard, accelerator.device),
        clock=DataClock(),
    )


def run(config: TrainConfig) -> Path:
    """Train, or resume, the run in `config.out`; returns its folder."""
    accelerator = accelerator_for(config)
    wanted(config.cuda_graphs, accelerator.device, accelerator.num_processes)  # refuses now, not at the first step
    context = make_context(config, accelerator)
    stages = METHODS[config.method].stages(context)  # all that can be refused is, before `out` is claimed
    if accelerator.is_main_process:
        context.folder.claim(config, context.data.fingerprint)
        describe(context)
    accelerator.wait_for_everyone()
    torch.backends.cudnn.benchmark = True  # shapes repeat; no effect on a CPU
    try:
        run_stages(context, stages)
    except OSError as error:  # a row, a picture or an id list that cannot be written
        raise FaceganError(
            f"`out={context.folder.root}` cannot be written ({error}); what was saved before is whole: make room or allow "
            "writing there, then run the same command again"
        ) from error
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise FaceganError(f"a step does not fit in memory: {METHODS[config.method].less_memory(config)}") from error
    return context.folder.root


def run_stages(context: Context, stages: Stages) -> None:
    """One after the other, under the run's trackers."""
    config, accelerator = context.config, context.accelerator
    scalars = {name: value for name, value in config.to_json().items() if isinstance(value, (int, float, str, bool))}
    accelerator.init_trackers("tensorboard", config=scalars)
    try:
        prepare_kernels(context)
        train(context, stages)
    finally:
        accelerator.end_training()


def prepare_kernels(context: Context) -> None:
    """Compile what the first step would otherwise compile one kernel after the other; a training starts whatever becomes of it."""
    from facegan import warmup

    accelerator = context.accelerator
    attributes, main = len(context.groups.attributes), accelerator.is_local_main_process
    with accelerator.local_main_process_first():
        # One process compiles for all of a machine. Errors stay inside: past the block the others would wait for it for ever.
        try:
            warmup.prepare(context.config, context.device, processes=accelerator.num_processes, attributes=attributes, progress=main)
        except Exception as error:
            log.warning("kernels are compiled when they are first used, as that failed beforehand (%s: %s)", type(error).__name__, error)


def describe(context: Context) -> None:
    """What this run is about to learn from."""
    sizes = ", ".join(f"{a.name} {len(context.attribute_set(k))}" for k, a in enumerate(context.groups.attributes))
    log.info("images: %s alone, %d in all; %d joint images held out", sizes, len(context.split.train), len(context.groups.joint))
    log.info("device: %s, %d process(es), %d threads", context.device, context.accelerator.num_processes, torch.get_num_threads())
    if synthetic_seed(context.config.data) is None:
        look_at_faces(context)


def look_at_faces(context: Context) -> None:
    """A warning where many of the faces are elsewhere than in an aligned data set; of some that are spread over all."""
    images, ids = context.data.images, context.data.table.ids
    chosen = range(0, len(images), max(1, len(images) // SEEN))[:SEEN]
    warn_of_misplaced([(ids[i], images[i]) for i in chosen], share=1 / 3)
