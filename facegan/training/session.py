"""From a configuration to a finished run: processes, data, folder, loop."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import ProjectConfiguration

from facegan.data.attributes import group, resolve
from facegan.data.faces import FaceData, open_faces
from facegan.data.splits import split
from facegan.devices import resolve_device
from facegan.errors import FaceganError
from facegan.graphs import wanted
from facegan.memory import out_of_memory
from facegan.methods import METHODS, Plan
from facegan.training.batches import DataClock
from facegan.training.config import TrainConfig
from facegan.training.config_a import MethodAConfig
from facegan.training.config_b import MethodBConfig
from facegan.training.config_restore import RestoreConfig
from facegan.training.folder import RunFolder, shown
from facegan.training.loop import train
from facegan.training.randomness import Randomness, Shard
from facegan.training.stage import Context

log = logging.getLogger("facegan.train")


def accelerator_for(config: TrainConfig) -> Accelerator:
    # Buffers (masks, the merge) are equal on all ranks by construction; broadcasting them would only cost time.
    # A network that grows leaves its later sizes unused for a while; one that has grown, maybe taken over, its earlier colours.
    unused = isinstance(config, MethodBConfig) and bool(config.growing or config.init_from)
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
    if accelerator is None:
        return open_faces(config.data, config.resolution, num=config.num, seed=config.seed)
    with accelerator.main_process_first():
        return open_faces(config.data, config.resolution, num=config.num, seed=config.seed, progress=accelerator.is_main_process)


def make_context(config: TrainConfig, accelerator: Accelerator) -> Context:
    share = 8 * accelerator.num_processes  # phase 2 divides half a batch into quarters
    if config.batch % share:
        raise FaceganError(f"--batch is {config.batch}: expected a multiple of {share} with {accelerator.num_processes} process(es)")
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
    """Train, or go on training, the run in `config.out`; returns its folder."""
    accelerator = accelerator_for(config)
    wanted(config.cuda_graphs, accelerator.device, accelerator.num_processes)  # refuses now, not at the first step
    context = make_context(config, accelerator)
    stages, other = METHODS[config.method](context), adoptable(context)  # all that can be refused is, before --out is claimed
    if accelerator.is_main_process:
        context.folder.claim(config, context.data.fingerprint)
        describe(context)
    accelerator.wait_for_everyone()
    torch.backends.cudnn.benchmark = True  # shapes repeat; no effect on a CPU
    try:
        run_stages(context, stages, other)
    except OSError as error:  # a row, a picture or an id list that cannot be written
        raise FaceganError(
            f"--out {context.folder.root} cannot be written ({error}); what was saved before is whole: make room or allow "
            "writing there, then run the same command again"
        ) from error
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise FaceganError(f"a step does not fit in memory: {smaller(config)}") from error
    return context.folder.root


def smaller(config: TrainConfig) -> str:
    """What to do about it."""
    if isinstance(config, (MethodBConfig, RestoreConfig)):
        parts = 2 * config.accumulate
        return f"run the same command with --accumulate {parts}, which takes {config.batch // parts} images at once for the same result"
    return f"try --batch {config.batch // 2} with a new --out"


def run_stages(context: Context, stages: Plan, other: RunFolder | None) -> None:
    """`other`: a run whose phase 1 is taken over."""
    config, accelerator = context.config, context.accelerator
    scalars = {name: value for name, value in config.to_json().items() if isinstance(value, (int, float, str, bool))}
    accelerator.init_trackers("tensorboard", config=scalars)
    try:
        prepare_kernels(context)
        if other is not None:
            adopt(context, other)
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


def adoptable(context: Context) -> RunFolder | None:
    """The run of --phase1-from; FaceganError unless it is of the same data and networks, and has finished its phase 1."""
    ours = context.config
    if not isinstance(ours, MethodAConfig) or not ours.phase1_from or context.folder.finished("phase1"):
        return None
    other = RunFolder(ours.phase1_from)
    theirs = other.config()
    if not other.finished("phase1"):
        raise FaceganError(f"--phase1-from {other.root} has not finished its phase 1: let it end first, or leave the flag away")
    for name in ("data", "attributes", "resolution", "width", "z_shape", "conditional", "seed", "num"):
        if getattr(theirs, name, None) != getattr(ours, name):
            flag = name.replace("_", "-")
            values = f"{shown(getattr(theirs, name, None))}, this run {shown(getattr(ours, name))}"
            raise FaceganError(f"--phase1-from {other.root} has --{flag} {values}: they must agree")
    if other.record()["data_fingerprint"] != context.data.fingerprint:
        raise FaceganError(f"--phase1-from {other.root} learned from other images or labels than --data now holds: train phase 1 anew")
    return other


def adopt(context: Context, other: RunFolder) -> None:
    """Take over the finished phase 1 of another run."""
    for stage in ("pretrain", "phase1"):
        if other.finished(stage) and not context.folder.finished(stage) and context.accelerator.is_main_process:
            tensors, facts = other.load_stage(stage)
            context.folder.write_ids(stage, other.ids(stage))
            context.folder.finish(stage, tensors, {**facts, "taken_from": str(other.root)})
    context.accelerator.wait_for_everyone()


def describe(context: Context) -> None:
    """What this run is about to learn from."""
    sizes = ", ".join(f"{a.name} {len(context.attribute_set(k))}" for k, a in enumerate(context.groups.attributes))
    log.info("images: %s alone, %d in all; %d joint images held out", sizes, len(context.split.train), len(context.groups.joint))
    log.info("device: %s, %d process(es), %d threads", context.device, context.accelerator.num_processes, torch.get_num_threads())
