"""The page as a whole, in a browser: sizes, the keyboard, and what people with disabilities need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="playwright is not installed: pip install -e '.[dev]'")
from app_page import DESKTOP, PHONE, TABS, Eyes, expect, findings  # noqa: E402


def filled(eyes: Eyes, tab: str, photo: Path) -> None:
    """Go to a tab and have something made there."""
    eyes.tab(tab)
    if tab == "Photo":
        eyes.attach("photo-upload", photo)
        eyes.picture("photo-face")
        eyes.fill("photo-steps", 10)
    eyes({"Judge": "judge-stored"}.get(tab, f"{tab.lower()}-run")).click()
    eyes.says(f"{tab.lower()}-command", "facegan [a-z]+")
    if tab == "Photo":
        eyes.fill("photo-attribute-1", 1)
        eyes.picture("photo-edited")
    eyes.picture(f"{tab.lower()}-result")


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_on_a_desk_and_on_a_phone(tab: str, eyes: Eyes, photo: Path, shoot: Callable) -> None:
    eyes.open()
    filled(eyes, tab, photo)
    shoot(eyes, f"{tab.lower()}-1280")
    eyes.page.set_viewport_size(PHONE)
    eyes.page.wait_for_timeout(300)
    wide = eyes.page.evaluate(
        "[...document.querySelectorAll('body *')].filter(one => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1"
        " && !one.closest('[class*=overflow], .grid-wrap, svg')).map(one => one.outerHTML.slice(0, 120))"
    )
    assert eyes.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], wide
    for control in eyes.controls():
        control.scroll_into_view_if_needed()
        box = control.bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"] + 1, control.evaluate(
            "one => one.outerHTML.slice(0, 200)"
        )
    shoot(eyes, f"{tab.lower()}-390")


@pytest.mark.parametrize("tab", TABS)
def test_axe_finds_nothing_serious(tab: str, eyes: Eyes, photo: Path, axe: str) -> None:
    eyes.open(tab)
    empty = findings(eyes, axe)
    filled(eyes, tab, photo)
    assert not empty + findings(eyes, axe)


def test_the_keyboard_alone_reaches_and_operates_every_tab(eyes: Eyes) -> None:
    eyes.open()
    for tab in TABS:
        eyes.reach(lambda focus, tab=tab: focus["role"] == "tab" and focus["text"] == tab)
        eyes.page.keyboard.press("Enter")
        expect(eyes.page.get_by_role("tab", name=tab, exact=True)).to_have_attribute("aria-selected", "true")
        missing = {f"{tab.lower()}-{part}" for part in ("run", "cancel")}
        while missing:
            focus = eyes.reach(lambda focus, missing=missing: focus["id"] in missing)
            missing.discard(focus["id"])
        eyes.reach(lambda focus: focus["role"] == "tab", back=True)
    # a face by keys alone
    eyes.reach(lambda focus: focus["role"] == "tab" and focus["text"] == "Generate", back=True)
    eyes.page.keyboard.press("Enter")
    eyes.reach(lambda focus: "generate-seeds" in focus["inside"])
    eyes.page.keyboard.press("Control+A")
    eyes.page.keyboard.type("17")
    eyes.reach(lambda focus: focus["id"] == "generate-run")
    eyes.page.keyboard.press("Enter")
    eyes.says("generate-command", "--seeds 17 ")
    eyes.reach(lambda focus: "generate-result" in focus["inside"] and focus["tag"] == "BUTTON")
    eyes.page.keyboard.press("Enter")
    eyes.says("generate-kept", "17")


def test_every_control_has_a_label(eyes: Eyes) -> None:
    eyes.open()
    for tab in TABS:
        eyes.tab(tab)
        assert eyes.controls()
        for control in eyes.controls():
            name = control.evaluate(
                "one => one.getAttribute('aria-label') || one.closest('label')?.innerText || one.labels?.[0]?.innerText || one.innerText"
                " || document.getElementById(one.getAttribute('aria-labelledby'))?.innerText || ''"
            )
            assert name.strip(), control.evaluate("one => one.outerHTML.slice(0, 300)")


def test_the_page_needs_no_internet_and_says_what_it_is(eyes: Eyes) -> None:
    eyes.open()
    assert eyes.page.title() == "facegan" and eyes.page.viewport_size == DESKTOP
    fonts = eyes.page.evaluate("[...document.fonts].map(font => font.family)")
    outside = eyes.page.evaluate("performance.getEntriesByType('resource').map(one => one.name)")
    assert all(url.startswith((eyes.address, "data:", "blob:")) for url in outside), outside
    assert not any("google" in str(font).lower() for font in fonts)
