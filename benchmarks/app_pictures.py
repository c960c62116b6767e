"""The pictures of the page for README.md and docs/app.md: `python benchmarks/app_pictures.py [--out docs/images]`.

The app is asked in a headless Chromium for mixes of drawn faces, and for the edit of a drawn photo; app-mix.png and app-photo.png have 256
colours, to be small.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import app_server
from app_page import Eyes
from PIL import Image
from playwright.sync_api import sync_playwright

WIDE = {"width": 1180, "height": 800}


def shot(eyes: Eyes, path: Path) -> None:
    """The whole page as a small file."""
    eyes.page.mouse.move(2, 2)
    eyes.page.wait_for_timeout(500)
    picture = Image.open(io.BytesIO(eyes.page.screenshot(full_page=True))).convert("RGB")
    picture.quantize(256).save(path, optimize=True)
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size / 1024:.0f} KB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder (default: docs/images)")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    path = app_server.chromium()
    if path is None:
        sys.exit(f"none of {', '.join(app_server.CHROMIUMS)} is installed: apt-get install chromium")
    with (
        tempfile.TemporaryDirectory() as name,
        app_server.served(["synthetic64"], Path(name) / "app.log") as one,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=path, args=app_server.SANDBOX)
        eyes = Eyes(browser.new_context(viewport=WIDE, reduced_motion="reduce").new_page(), one.address).open("Mix")
        eyes.fill("mix-rows-seeds", "0-3")
        eyes.fill("mix-cols-seeds", "4-7")
        eyes.choose("mix-mode", "crossover")
        eyes.fill("mix-layers-first", 0)
        eyes.fill("mix-layers-last", 4)
        eyes("mix-run").click()
        eyes.says("mix-command", "--cols 4.*7 .*--layers 0-4")
        eyes.settled("mix-result")
        shot(eyes, out / "app-mix.png")
        eyes.tab("Photo").attach("photo-upload", app_server.drawn_photo(Path(name)))
        eyes.picture("photo-face")
        eyes.choose("photo-space", "w+")
        eyes.fill("photo-steps", 300)
        eyes("photo-run").click()
        eyes.page.set_default_timeout(300_000)
        eyes.page.wait_for_function("document.querySelector('#photo-command textarea').value.includes('--steps 300')")
        eyes.fill("photo-attribute-1", 1.7)
        eyes.says("photo-command", "--add beard:1.7")
        eyes.settled("photo-edited")
        shot(eyes, out / "app-photo.png")
        browser.close()


if __name__ == "__main__":
    main()
