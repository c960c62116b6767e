"""Ctrl-C and SIGTERM, heard between two steps. What projects photos needs no more of training than this."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from facegan.training.stage import Context

AGREE_EVERY = 10  # steps between the processes' agreement on an interruption: a collective a step would cost


class Interruption:
    """Turns the first Ctrl-C or SIGTERM into a flag; the second one does what it always did. Only the main thread hears of signals: in
    others nothing is changed."""

    def __init__(self) -> None:
        self.signum = 0

    def __enter__(self) -> Interruption:
        heard = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        self.before = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _note(self, signum: int, _frame: object) -> None:
        self.signum = signum
        signal.signal(signum, self.before[signal.Signals(signum)])

    def agreed(self, context: Context, step: int, ended: bool) -> int:
        """The signal that any process got, as all of them see it; asked for now and then, and when the stage has ended."""
        if context.accelerator.num_processes == 1:
            return self.signum
        if step % AGREE_EVERY and not ended:
            return 0
        flag = torch.tensor([self.signum], device=context.device)
        return int(context.accelerator.gather(flag).max())
