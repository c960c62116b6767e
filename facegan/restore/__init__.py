"""Restoration: small, soft or damaged faces made large and sharp by a GAN prior behind an encoder (GPEN; Yang et al. 2021)."""
