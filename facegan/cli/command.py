"""What a command is to the parser: options, what runs them, examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from facegan.config import Options

if TYPE_CHECKING:
    from facegan.api.stylegan import StyleGAN
    from facegan.options import Network


@dataclass(frozen=True)
class Command:
    """One command; `options` may depend on the words that were typed, as those of a training do on its method."""

    options: type[Options] | Callable[[Sequence[str]], Sequence[type[Options]]]
    run: Callable[[dict[str, Any]], None]  # (the values that were given)
    examples: str | Callable[[Sequence[str]], str] = ""

    def options_for(self, words: Sequence[str]) -> Sequence[type[Options]]:
        """The classes whose fields are its arguments."""
        return [self.options] if isinstance(self.options, type) else self.options(words)

    def examples_for(self, words: Sequence[str]) -> str:
        """What stands at the end of its help."""
        return self.examples if isinstance(self.examples, str) else self.examples(words)


def network(options: Network) -> StyleGAN:
    """The StyleGAN2 network that options name."""
    from facegan.api.stylegan import StyleGAN

    return StyleGAN.from_pretrained(options.network, device=options.device, cuda_graphs=options.cuda_graphs)
