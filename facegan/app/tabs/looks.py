"""How the page looks: letters of the machine, contrast that everyone can read, room for 390 pixels."""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils.fonts import Font

CSS = """
.gradio-container {width: 100%; max-width: 1400px !important; margin: 0 auto !important}
.status {min-height: 1.6em; overflow-wrap: anywhere}
.command textarea {font-family: var(--font-mono); font-size: 0.85em}
.pictures .image-container, .pictures .grid-wrap {padding-top: 30px}
.faces .grid-wrap {min-height: 0; max-height: none; height: auto !important; overflow: visible}
.faces, .faces .gallery-container {height: auto !important; min-height: 0}
.faces .grid-container {grid-template-columns: repeat(auto-fill, minmax(88px, 1fr)) !important}
.faces .caption-label {font-size: 0.75em; padding: 1px 4px; max-width: 100%}
footer, footer * {color: var(--body-text-color) !important; opacity: 1 !important}
footer .divider, footer .show-api-divider {display: none}
@media (max-width: 640px) {
  .gradio-container, .gradio-container > main {padding: 6px !important}
  #tabs > .tab-wrapper button {padding: 0 8px; font-size: 0.9em}
  .faces .grid-container {grid-template-columns: repeat(auto-fill, minmax(68px, 1fr)) !important}
}
"""
# What is read aloud is what is written: Gradio names uploads and thumbnails otherwise than they are labelled.
HEAD = """
<meta name="referrer" content="no-referrer">
<script>
(() => {
  const mend = () => {
    for (const each of document.querySelectorAll("button.upload-container[aria-label], button.thumbnail-item[aria-label]"))
      if (each.textContent.trim()) each.removeAttribute("aria-label");
    for (const each of document.querySelectorAll('div[aria-label="Empty value"]:not([role])')) each.setAttribute("role", "img");
  };
  const begin = () => {
    mend();
    new MutationObserver(mend).observe(document.body, {childList: true, subtree: true, attributes: true, attributeFilter: ["aria-label"]});
  };
  document.body ? begin() : document.addEventListener("DOMContentLoaded", begin);
})();
</script>
"""


def theme() -> gr.themes.Base:
    """No letters are fetched; greys and blues dark enough on white, and light enough on black."""
    made = gr.themes.Default(
        primary_hue="blue", font=(Font("system-ui"), Font("sans-serif")), font_mono=(Font("ui-monospace"), Font("monospace"))
    )
    return made.set(
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        slider_color="*primary_600",
    )
