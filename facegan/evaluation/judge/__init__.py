"""The independent judge; shares nothing with the critics."""
