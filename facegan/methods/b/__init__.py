"""Method B: StyleGAN2-ADA, whose styles are projected and mixed."""
