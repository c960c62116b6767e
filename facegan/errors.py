"""The one exception a user should ever see, and the one that ends what a signal stopped."""

from __future__ import annotations


class FaceganError(ValueError):
    """A mistake the user can mend: its message is one sentence that says what came, what was expected and what to do.

    The command line prints the message alone and exits with status 2.
    """


class Interrupted(Exception):
    """A signal asked the run to stop; its state has been saved."""

    def __init__(self, signum: int, stage: str, step: int) -> None:
        super().__init__(f"stopped in {stage} at step {step}; run the same command again to resume")
        self.signum = signum
