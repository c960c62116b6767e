"""The one exception a user should ever see."""

from __future__ import annotations


class FaceganError(ValueError):
    """A mistake the user can mend: its message is one sentence that says what came, what was expected and what to do.

    The command line prints the message alone and exits with status 2.
    """
