"""Method A: three phases of convolutional GANs and an AdaIN merge."""
