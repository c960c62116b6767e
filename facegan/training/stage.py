"""What a method hands to the loop: a stage is one training with its own networks, losses and length."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from facegan.checkpoints import checkpoint
from facegan.checkpoints.run import RunFolder
from facegan.config import TrainConfig
from facegan.data.attributes import Groups
from facegan.data.faces import FaceData
from facegan.data.splits import Split
from facegan.graphs import Graphed
from facegan.randomness import Randomness, generator
from facegan.training.batches import DataClock, RealBatches
from facegan.training.compiled import compiled
from facegan.training.optimizer import Rates
from facegan.training.peers import Peers
from facegan.training.sharing import SharedFolder

C = TypeVar("C", bound=TrainConfig, covariant=True)


@dataclass(frozen=True)
class Context(Generic[C]):
    """What every stage of a run is given."""

    config: C
    folder: RunFolder
    data: FaceData
    groups: Groups
    split: Split
    accelerator: Accelerator
    randomness: Randomness
    clock: DataClock
    peers: Peers = field(default_factory=Peers)  # the other processes: none

    @functools.cached_property
    def shared(self) -> SharedFolder:
        """The run's folder, as all machines are to have it; every process asks for it first at the same place."""
        return SharedFolder(self.folder, self.peers, self.device)

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def epoch_images(self) -> int:
        smallest = min(len(self.attribute_set(k)) for k in range(len(self.groups.attributes)))
        return self.config.images_per_epoch or smallest

    def steps(self, epochs: float) -> int:
        """Optimiser steps of so many epochs."""
        return round(epochs * self.epoch_images / self.config.batch)

    def kimg_steps(self, kimg: float) -> int:
        """Optimiser steps of so many thousand images."""
        return round(1000 * kimg / self.config.batch)

    def extend(self, stage: str, length: str, steps: int) -> None:
        """A stage that has ended goes on to so many steps, where the option `length` allows it (`may_grow`)."""
        if length in self.config.may_grow:
            self.folder.extend(stage, steps)

    def attribute_set(self, k: int) -> np.ndarray:
        """X_k on the generator's side: indices of images with attribute k and none of the others."""
        return np.intersect1d(self.groups.only[k], self.split.train)

    def reals(self, index: np.ndarray, stream: str) -> RealBatches:
        return RealBatches(self.data.images, index, stream, self.randomness, self.clock)

    def seed_networks(self, stage: str) -> None:
        """Initial weights come from the global generator: set it from the run's seed and the stage's name."""
        torch.manual_seed(int(generator(self.config.seed, f"{stage}/networks").integers(1 << 63)))


class Stage(Generic[C]):
    """Base of all stages. A subclass fills `networks`, `optimizers`, `average`, and writes `draw` and `compute`."""

    name: str = ""
    title: str = ""
    steps_unsaved = 200  # most steps between snapshots, where --snapshot-every leaves it open
    decays = True  # whether its learning rate falls as --lr-decay says
    grows_by = ""  # the option by which it may be made longer once it has ended, where the run allows it

    def __init__(self, context: Context[C], steps: int, used: np.ndarray) -> None:
        self.context, self.steps, self.used = context, steps, np.unique(used)
        self.networks: dict[str, nn.Module] = {}  # unwrapped: everything whose weights a checkpoint holds
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self._compiled: dict[nn.Module, nn.Module] = {}

    # --- one step, in two halves: what the host decides and draws, and what the device then does
    def step(self, step: int) -> dict[str, Tensor]:
        """Train on one batch; returns the loss terms, detached, named `network/term`, which hold until the next step."""
        self.rates.set(step)
        return self.graphed(self.draw(step))

    @property
    def goes_on(self) -> bool:
        """Whether it may be made longer once it has ended: its last state is kept for that."""
        return self.grows_by in self.context.config.may_grow

    @functools.cached_property
    def rates(self) -> Rates:
        return Rates(list(self.optimizers.values()), self.steps, self.context.config.lr_decay if self.decays else 0.0)

    def draw(self, step: int) -> Any:
        """What a step is computed from, a function of its number alone: arrays, tensors of noise, and in plain values which kind of
        step it is. A number that changes from step to step is an array of no dimensions."""
        raise NotImplementedError

    def compute(self, drawn: Any) -> dict[str, Tensor]:
        """The step itself, on what `draw` gave, arrays now tensors on the device; obeys the rules of `facegan.graphs`."""
        raise NotImplementedError

    @functools.cached_property
    def graphed(self) -> Graphed:
        """`compute`, as CUDA graphs where the run has them."""
        context = self.context
        return Graphed(
            self.compute, context.device, context.config.cuda_graphs, state=self.changing, keep=False,
            processes=context.accelerator.num_processes, name=f"a step of {self.name}",
        )  # fmt: skip

    def release(self) -> None:
        """Give back the memory of the graphs, and of the stage that they refer to."""
        self.__dict__.pop("graphed", None)

    def changing(self) -> list[Tensor]:
        """All tensors that `compute` changes in place; a subclass adds those that are not of a network or optimiser."""
        tensors = [tensor for network in self.networks.values() for tensor in network.state_dict().values()]
        states = [values for optimizer in self.optimizers.values() for values in optimizer.state.values()]
        return tensors + [value for values in states for value in values.values() if isinstance(value, Tensor)]

    def first_order(self, network: nn.Module) -> nn.Module:
        """The network for passes that no second derivative is taken of: with `--compile` its compiled form."""
        if not self.context.config.compile:
            return network
        if network not in self._compiled:
            self._compiled[network] = compiled(network, self.context.device)
        return self._compiled[network]

    def after_step(self, step: int) -> bool:
        """Work between steps, `step` of them done (harvest, switch, validation). True: the stage may end now."""
        return False

    def samples(self) -> Tensor | None:
        """Images [N, 3, R, R] of the stage's fixed noise, for the grid; None where there is nothing to see."""
        return None

    def extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON metadata that a checkpoint must hold besides weights and optimisers."""
        return {}, {}

    def load_extra_state(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        pass

    def summary(self) -> str:
        """What the log is to say of the result when the stage has ended; may be empty."""
        return ""

    def export(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What later stages and users need when this one has ended."""
        raise NotImplementedError

    def arithmetic(self, full: bool = False) -> torch.autocast:
        """The run's autocast, or fp32 where second derivatives are taken."""
        lower = self.context.config.mixed_precision == "bf16" and not full
        # Without autocast's cache: it hands out the old cast of a weight that was changed meanwhile, and a graph would hold it.
        return torch.autocast(self.context.device.type, torch.bfloat16, enabled=lower, cache_enabled=False)

    # --- state, as a checkpoint holds it
    def weights(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        for name, network in self.networks.items():
            tensors |= checkpoint.pack(f"network/{name}", network.state_dict())
        return tensors

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = self.weights()
        for name, optimizer in self.optimizers.items():
            tensors |= checkpoint.pack_optimizer(f"optimizer/{name}", optimizer)
        extra, metadata = self.extra_state()
        return tensors | checkpoint.pack("extra", extra), {"extra": metadata}

    def load_state(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        for name, network in self.networks.items():
            network.load_state_dict(checkpoint.unpack(f"network/{name}", tensors))
        for name, optimizer in self.optimizers.items():
            checkpoint.unpack_optimizer(f"optimizer/{name}", tensors, optimizer)
        self.load_extra_state(checkpoint.unpack("extra", tensors), metadata["extra"])


Stages = Iterator[tuple[str, Callable[[], Stage[Any]]]]  # (name, builder), in order
