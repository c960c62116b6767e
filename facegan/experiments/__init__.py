"""Whole studies: the demo, the ablation."""
