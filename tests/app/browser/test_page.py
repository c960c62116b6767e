"""The page as a whole, in a browser: sizes, the keyboard, and what people with disabilities need."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("playwright", reason="playwright is not installed: pip install -e '.[dev]'")
from app_page import DESKTOP, PHONE, TABS, Eyes, expect, findings  # noqa: E402


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_on_a_desk_and_on_a_phone(tab: str, busy: Eyes, shoot: Callable) -> None:
    busy.tab(tab)
    shoot(busy, f"{tab.lower()}-1280")
    busy.page.set_viewport_size(PHONE)
    busy.page.wait_for_timeout(200)
    try:
        assert busy.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        controls = busy.controls()
        assert len(controls) > 8
        outside = [one for one in controls if one["left"] < 0 or one["right"] > PHONE["width"] + 1]
        assert not outside
        shoot(busy, f"{tab.lower()}-390")
    finally:
        busy.page.set_viewport_size(DESKTOP)


@pytest.mark.parametrize("tab", TABS)
def test_every_control_has_a_name(tab: str, busy: Eyes) -> None:
    assert not [one["html"] for one in busy.tab(tab).controls() if not one["name"].strip()]


@pytest.mark.parametrize("tab", TABS)
def test_axe_finds_nothing_serious(tab: str, busy: Eyes, axe: str) -> None:
    assert not findings(busy.tab(tab), axe)


def test_axe_finds_nothing_serious_before_anything_is_made(eyes: Eyes, axe: str) -> None:
    eyes.open()
    for tab in TABS:
        assert not findings(eyes.tab(tab), axe), tab


def test_the_keyboard_alone_reaches_and_operates_every_tab(eyes: Eyes) -> None:
    eyes.open()
    for tab in TABS:
        run, cancel = f"{tab.lower()}-run", f"{tab.lower()}-cancel"
        eyes.reach(lambda focus, tab=tab: focus["role"] == "tab" and focus["text"] == tab)
        eyes.page.keyboard.press("Enter")
        expect(eyes.page.get_by_role("tab", name=tab, exact=True)).to_have_attribute("aria-selected", "true")
        for name in (run, cancel):
            eyes.reach(lambda focus, name=name: focus["id"] == name)
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


def test_the_page_needs_no_internet_and_says_what_it_is(eyes: Eyes) -> None:
    eyes.open()
    assert eyes.page.title() == "facegan" and eyes.page.viewport_size == DESKTOP
    fonts = eyes.page.evaluate("[...document.fonts].map(font => font.family)")
    outside = eyes.page.evaluate("performance.getEntriesByType('resource').map(one => one.name)")
    assert all(url.startswith((eyes.address, "data:", "blob:")) for url in outside), outside
    assert not any("google" in str(font).lower() for font in fonts)
