"""Checkpoints of other projects, read without running anything that lies in them, and our own on disk."""
