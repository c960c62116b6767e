"""Styles: points in a StyleGAN2 network's W space, made from photos, averaged, mixed and searched."""
