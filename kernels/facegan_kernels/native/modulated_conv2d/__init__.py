"""The compiled side of a synthesis layer that needs Python: prepacked weights, and the Winograd layer around the library's products."""
