"""From a configuration to a finished run: processes, data, folder, loop."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import astuple
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import TorchDynamoPlugin

from facegan import __version__, launchers
from facegan.alignment.placement import SEEN, warn_of_misplaced
from facegan.checkpoints.run import RunFolder
from facegan.config import TrainConfig
from facegan.data.attributes import group, resolve
from facegan.data.faces import FaceData, open_faces, synthetic_seed
from facegan.data.limits import Limits
from facegan.data.splits import split
from facegan.data.streaming import StreamedImages
from facegan.devices import resolve_device
from facegan.errors import FaceganError
from facegan.graphs import wanted
from facegan.memory import out_of_memory
from facegan.methods import METHODS
from facegan.randomness import Randomness, Shard
from facegan.threads import Choice, choose
from facegan.training.batches import DataClock
from facegan.training.loop import train
from facegan.training.peers import Peers, together
from facegan.training.stage import Context, Stages

log = logging.getLogger("facegan.train")


def accelerator_for(config: TrainConfig) -> Accelerator:
    # Buffers (masks, the merge) are equal on all ranks by construction; broadcasting them would only cost time.
    unused = METHODS[config.method].unused_parameters(config)
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=unused)
    launchers.check_wishes(config)
    asked, _ = launchers.asked_for()
    try:
        accelerator = _accelerator(config, ddp)
    except torch.distributed.DistError as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise FaceganError(
            f"the {os.environ.get('WORLD_SIZE', asked)} processes of this run have not met at {address} ({str(error).splitlines()[0]}): "
            "start the same command on every machine, and let them reach that one"
        ) from error
    launchers.check_started(accelerator.num_processes)
    if asked > 1 and accelerator.is_main_process:
        log.info("processes: %d asked for, %d run", asked, accelerator.num_processes)
    return accelerator


def _accelerator(config: TrainConfig, ddp: DistributedDataParallelKwargs) -> Accelerator:
    return Accelerator(
        cpu=resolve_device(config.device).type == "cpu",
        mixed_precision="no",  # `Stage.arithmetic` casts: Accelerate would patch every forward, R1's too
        dynamo_plugin=TorchDynamoPlugin(backend="NO"),  # `Stage.first_order` compiles, what has no second derivative
        kwargs_handlers=[ddp],
    )


def load_faces(config: TrainConfig, peers: Peers | None = None) -> FaceData:
    """The data of a run; of several processes one on every machine decodes, and the others find the cache."""
    peers = peers or Peers()
    limits = Limits.of(config)
    with peers.local_main_first():
        return open_faces(config.data, config.resolution, num=config.num, seed=config.seed, progress=peers.local_main, limits=limits)


def make_context(config: TrainConfig, accelerator: Accelerator, peers: Peers | None = None) -> Context:
    share = 8 * accelerator.num_processes  # phase 2 divides half a batch into quarters
    if config.batch % share:
        raise FaceganError(f"`batch` is {config.batch}: expected a multiple of {share} with {accelerator.num_processes} process(es)")
    data = load_faces(config, peers)
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
        peers=peers or Peers(),
    )


def run(config: TrainConfig) -> Path:
    """Train, or resume, the run in `config.out`; returns its folder."""
    accelerator = accelerator_for(config)
    with together(accelerator, config.peer_timeout) as peers:
        return _run(config, accelerator, peers)


def _run(config: TrainConfig, accelerator: Accelerator, peers: Peers) -> Path:
    wanted(config.cuda_graphs, accelerator.device, accelerator.num_processes)  # refuses now, not at the first step
    agree_on_options(config, peers)
    context = make_context(config, accelerator, peers)
    peers.agree(context.data.fingerprint, f"has other images or labels under `data={config.data}` than process 0: copy them again")
    context.shared.share()  # what is there to resume from
    stages = METHODS[config.method].stages(context)  # all that can be refused is, before `out` is claimed
    peers.wait()
    chosen = threads_for(context)
    before = torch.get_num_threads()
    try:
        if accelerator.is_main_process:
            context.folder.claim(config, context.data.fingerprint, chosen.count)
            describe(context, chosen)
        context.shared.share()
        torch.backends.cudnn.benchmark = True  # shapes repeat; no effect on a CPU
        torch.set_num_threads(chosen.count)
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
    finally:
        context.folder.release()
        torch.set_num_threads(before)
    return context.folder.root


def threads_for(context: Context) -> Choice:
    """How many threads this process computes with: on a CPU as many as before, or as are free."""
    if context.device.type != "cpu":
        return Choice(torch.get_num_threads(), "as PyTorch has it")
    images = context.data.images
    decoders = images.decoders.processes if isinstance(images, StreamedImages) else 0
    return choose(context.config.threads, context.folder.threads(), decoders)


def agree_on_options(config: TrainConfig, peers: Peers) -> None:
    """Refuse, everywhere, where processes were started with different options or different versions of this package."""
    local = {"out", "data", "device", "threads", "cache_limit", "download_limit", "decoders"}
    options = {name: value for name, value in config.to_json().items() if name not in local}
    mine = json.dumps({"facegan": __version__, **options})
    first, *others = map(json.loads, peers.gather(mine))
    differing = sorted({name for each in others for name in first | each if first.get(name) != each.get(name)})
    peers.agree(mine, f"was started with another {' and '.join(f'`{name}`' for name in differing)} than process 0: give all the same")


def run_stages(context: Context, stages: Stages) -> None:
    """One after the other; then the processes part."""
    try:
        prepare_kernels(context)
        train(context, stages)
    finally:
        context.accelerator.end_training()


def prepare_kernels(context: Context) -> None:
    """Compile what the first step would otherwise compile one kernel after the other; a training starts whatever becomes of it."""
    from facegan import warmup

    accelerator = context.accelerator
    attributes, main = len(context.groups.attributes), accelerator.is_local_main_process
    with context.peers.local_main_first():
        # One process compiles for all of a machine. Errors stay inside: past the block the others would wait for it for ever.
        try:
            warmup.prepare(context.config, context.device, processes=accelerator.num_processes, attributes=attributes, progress=main)
        except Exception as error:
            log.warning("kernels are compiled when they are first used, as that failed beforehand (%s: %s)", type(error).__name__, error)


def describe(context: Context, chosen: Choice) -> None:
    """What this run is about to learn from."""
    sizes = ", ".join(f"{a.name} {len(context.attribute_set(k))}" for k, a in enumerate(context.groups.attributes))
    log.info("images: %s alone, %d in all; %d joint images held out", sizes, len(context.split.train), len(context.groups.joint))
    count, machines = context.accelerator.num_processes, context.shared.machines
    log.info("device: %s, %d process(es) on %d machine(s), %d thread(s): %s", context.device, count, machines, *astuple(chosen))
    if count > 1:
        log.info("a process that is silent for %g s is given up, and the run ends (`peer_timeout`)", context.config.peer_timeout)
    if synthetic_seed(context.config.data) is None:
        look_at_faces(context)


def look_at_faces(context: Context) -> None:
    """A warning where many of the faces are elsewhere than in an aligned data set; of some that are spread over all."""
    images, ids = context.data.images, context.data.table.ids
    chosen = range(0, len(images), max(1, len(images) // SEEN))[:SEEN]
    warn_of_misplaced([(ids[i], images[i]) for i in chosen], share=1 / 3)
