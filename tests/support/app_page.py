"""The page of `facegan app` as its visitors have it: what stands on it, and what went wrong."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import ConsoleMessage, Locator, Page, expect

TABS = ("Generate", "Mix", "Photo", "Judge", "Runs")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PATIENCE = 30_000  # ms, for a busy machine with two cores
expect.set_options(timeout=PATIENCE)


class Eyes:
    """A page of the app as its visitor has it, and what went wrong on it."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address
        self.errors: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(f"page error: {error}"))
        page.on("requestfailed", lambda request: self._failed(request.url, request.failure))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _failed(self, url: str, why: str | None) -> None:
        if why != "net::ERR_ABORTED":  # a stream that the page itself has closed
            self.errors.append(f"failed: {url} ({why})")

    # --- looking
    def __call__(self, name: str) -> Locator:
        """The control with this elem_id."""
        return self.page.locator(f"#{name}")

    def open(self, tab: str = "") -> Eyes:
        """Load the page; go to a tab."""
        self.page.goto(self.address)
        expect(self("generate-run")).to_be_visible()
        return self.tab(tab) if tab else self

    def tab(self, name: str) -> Eyes:
        tab = self.page.get_by_role("tab", name=name, exact=True)
        tab.click()
        expect(tab).to_have_attribute("aria-selected", "true")
        return self

    def picture(self, name: str) -> str:
        """The address of the first picture in a control, once there is one that is drawn."""
        image = self(name).locator("img").first
        expect(image).to_be_visible()
        self.page.wait_for_function(
            "name => { const image = document.querySelector(`#${name} img`); return image?.complete && image.naturalWidth > 0 }",
            arg=name,
            timeout=PATIENCE,
        )
        return str(image.get_attribute("src"))

    def changes(self, name: str, before: str) -> str:
        """The address of the picture in a control, once it is another one than `before`."""
        self.page.wait_for_function(
            "([name, before]) => { const src = document.querySelector(`#${name} img`)?.getAttribute('src'); return src && src !== before }",
            arg=[name, before],
            timeout=PATIENCE,
        )
        return self.picture(name)

    def settled(self, name: str) -> str:
        """The address of the picture in a control, once nothing works on it any more."""
        self.page.wait_for_function(
            "name => !document.querySelector(`#${name} .generating, #${name} .pending`)", arg=name, timeout=PATIENCE
        )
        return self.picture(name)

    def text(self, name: str) -> str:
        """What a text control says."""
        field = self(name).locator("textarea, input, code, .cm-content").first
        expect(field).to_be_attached()
        return str(field.evaluate("field => field.value !== undefined ? field.value : field.innerText")).strip()

    def says(self, name: str, pattern: str) -> str:
        """What a text control says, once it fits the pattern."""
        self.page.wait_for_function(
            """([name, pattern]) => [...document.querySelectorAll(`#${name} textarea, #${name} input, #${name} code, #${name} .cm-content`)]
                .some(field => new RegExp(pattern, "s").test(field.value !== undefined ? field.value : field.innerText))""",
            arg=[name, pattern],
            timeout=PATIENCE,
        )
        return self.text(name)

    def controls(self) -> list[dict[str, Any]]:
        """What can be operated on the tab that is shown: its name for who cannot see it, its edges, its HTML."""
        found: list[dict[str, Any]] = self.page.evaluate(
            """() => [...document.querySelectorAll("button, input, textarea, select, [role=listbox], [role=combobox]")]
            .filter(one => one.checkVisibility({visibilityProperty: true}) && !one.disabled && one.getBoundingClientRect().width > 1)
            .map(one => { const box = one.getBoundingClientRect(), other = document.getElementById(one.getAttribute("aria-labelledby"))
                return {left: box.left + scrollX, right: box.right + scrollX, html: one.outerHTML.slice(0, 300),
                        name: one.getAttribute("aria-label") || other?.innerText || one.labels?.[0]?.innerText || one.innerText
                              || one.querySelector("img")?.alt || ""} })"""
        )
        return found

    # --- acting
    def fill(self, name: str, value: object) -> None:
        """Type a value into a text, a number or the number beside a slider."""
        field = self(name).locator("textarea, input:not([type=range])").first
        field.fill(str(value))
        field.press("Enter" if field.evaluate("field => field.tagName") == "INPUT" else "Tab")

    def slide(self, name: str, *keys: str) -> None:
        """Move a slider by keys."""
        for key in keys:
            self(name).locator("input[type=range]").first.press(key)

    def choose(self, name: str, *labels: str) -> None:
        """Take choices of a radio, checkboxes or a dropdown."""
        for label in labels:
            radio = self(name).get_by_role("radio", name=label, exact=True).or_(self(name).get_by_role("checkbox", name=label, exact=True))
            box = self(name).get_by_role("listbox").or_(self(name).get_by_role("combobox"))
            expect(radio.or_(box).first).to_be_attached()  # choices come when the tab is opened
            if radio.count():
                radio.first.check()
                continue
            box.first.click()
            self.page.get_by_role("option", name=label, exact=True).first.click()

    def unfold(self, name: str) -> None:
        """Open an accordion."""
        self(name).get_by_role("button").first.click()

    def reach(self, wanted: Callable[[dict[str, Any]], bool], back: bool = False) -> dict[str, Any]:
        """Press Tab until what has the focus is wanted."""
        for _ in range(200):
            self.page.keyboard.press("Shift+Tab" if back else "Tab")
            focus: dict[str, Any] = self.page.evaluate(
                """() => { const one = document.activeElement, inside = []
                for (let each = one; each; each = each.parentElement) inside.push(each.id)
                return {id: one.id, tag: one.tagName, role: one.getAttribute("role"), text: one.innerText?.trim(), inside} }"""
            )
            if wanted(focus):
                return focus
        raise AssertionError("200 presses of Tab did not reach what was wanted")

    def make(self, tab: str, photo: Path, steps: int = 10) -> None:
        """Go to a tab and have something made there."""
        name = tab.lower()
        self.tab(tab)
        if tab == "Photo":
            self.attach("photo-upload", photo)
            self.picture("photo-face")
            self.fill("photo-steps", steps)
        self("judge-stored" if tab == "Judge" else f"{name}-run").click()
        self.says(f"{name}-command", "facegan [a-z]+")
        if tab == "Photo":
            self.fill("photo-attribute-1", 1)
            self.picture("photo-edited")
        self.picture(f"{name}-result")

    def attach(self, name: str, file: Path) -> None:
        """Give a file to an upload."""
        self(name).locator("input[type=file]").first.set_input_files(file)

    def download(self, tab: str, folder: Path) -> Path:
        """Have a tab's files prepared, and fetch them."""
        self(f"{tab}-save").click()
        expect(self(f"{tab}-download")).to_be_enabled()
        with self.page.expect_download() as download:
            self(f"{tab}-download").click()
        download.value.save_as(folder / download.value.suggested_filename)
        return folder / download.value.suggested_filename

    def told(self, pattern: str) -> str:
        """The sentence that the page shows in a corner, once it fits the pattern; the note is closed."""
        note = self.page.get_by_test_id("toast-body").filter(has_text=re.compile(pattern, re.S)).first
        expect(note).to_be_visible()
        text = note.inner_text()
        note.get_by_role("button").first.click()
        return text


def findings(eyes: Eyes, axe: str) -> list[str]:
    """What axe-core calls serious or critical."""
    eyes.page.evaluate(axe)
    result = eyes.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    bad = [rule for rule in result["violations"] if rule["impact"] in ("serious", "critical")]
    return [f"{rule['id']} ({rule['impact']}): {json.dumps([node['html'][:160] for node in rule['nodes'][:4]])}" for rule in bad]


def unpacked(archive: Path) -> dict[str, bytes]:
    """The files of a .zip, without the folder that they are in."""
    with zipfile.ZipFile(archive) as found:
        return {name.split("/", 1)[-1]: found.read(name) for name in found.namelist() if not name.endswith("/")}


def pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


def same(ours: dict[str, bytes], theirs: dict[str, bytes], but: Sequence[str] = ()) -> None:
    """The same names, the same pixels, the same bytes of whatever is no picture; of `but` the names alone."""
    assert ours.keys() == theirs.keys(), (sorted(ours), sorted(theirs))
    for name in ours:
        if name.endswith(".png"):
            np.testing.assert_array_equal(pixels(ours[name]), pixels(theirs[name]), name)
        elif name.endswith(".npz"):
            arrays, others = (dict(np.load(io.BytesIO(files[name]))) for files in (ours, theirs))
            assert arrays.keys() == others.keys(), name
            for key in arrays.keys() - {"facts"}:  # among which is the path of the photo
                np.testing.assert_array_equal(arrays[key], others[key], f"{name}: {key}")
        elif name not in but:
            assert ours[name] == theirs[name], name
