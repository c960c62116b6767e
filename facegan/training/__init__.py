"""Everything a training run needs that is not a method: configuration, randomness, checkpoints, the loop."""
