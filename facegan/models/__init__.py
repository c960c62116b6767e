"""StyleGAN2Checkpoint: one readable file each, all of them built from `facegan.nn` and `facegan.ops`."""
