"""`facegan app`: a page on which faces are made, mixed, edited and judged by eye. What it does is the Python API, nothing of its own.

The modules here do the work and know nothing of Gradio; `tabs/` lays the page out, `server.py` serves it.
"""
