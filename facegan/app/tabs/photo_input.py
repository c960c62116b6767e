"""An upload that Gradio does not open: the library's own reader does, within its limits."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio_client.utils import is_http_url_like


class PhotoInput(gr.Image):
    """A photo from a file or the camera; its value is the path of the file as it was sent."""

    is_template = True  # the browser's part is that of gr.Image

    def preprocess(self, payload: Any) -> str | None:
        """The path in the folder of uploads, where alone Gradio lets a request's file lie."""
        if payload is None or not payload.path:
            return None
        return str(payload.path)

    async def async_move_resource_to_block_cache(self, url_or_file_path: Any) -> str | None:
        """Nothing is fetched from other machines for a visitor."""
        if is_http_url_like(str(url_or_file_path or "")):
            raise gr.Error("A photo is uploaded as a file; addresses are not opened.", print_exception=False)
        found: str | None = await super().async_move_resource_to_block_cache(url_or_file_path)
        return found
