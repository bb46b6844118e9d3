"""The page of a sweep in a real browser: light and dark, on a phone, by keyboard, closed."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By

from converter.model.errors import ExitCode
from tests.browser.conftest import requests, violations
from tests.manifests import failed, ok
from tests.sweeps import Folder

pytestmark = pytest.mark.browser

EVIL = "</style><script>alert(1)</script><img src=x onerror=alert(1)>"
CONTRAST = """
const channels = (text) => text.match(/[0-9]+/g).slice(0, 3).map((value) => {
  const part = value / 255;
  return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
});
const light = (text) => {
  const [red, green, blue] = channels(text);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const colour = getComputedStyle(node).backgroundColor;
    if (colour !== "rgba(0, 0, 0, 0)") return colour;
  }
};
return [...document.querySelectorAll("h1, h2, p, th, td, small, a, span, label")].map((node) => {
  const [a, b] = [light(getComputedStyle(node).color), light(behind(node))];
  return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.outerHTML.slice(0, 60)];
}).filter(([ratio]) => ratio < 4.5);
"""


@pytest.fixture
def opened(browser: Chrome, tmp_path: Path) -> Path:
    """The page of a sweep of three points, one of which is refused."""
    folder = Folder(tmp_path, "opset=13", "opset=99", "opset=17,name=a+b")
    folder.end(0, ExitCode.MODELS_FAILED, ok("good", opset=13), failed("bad", message=EVIL))
    folder.points[2].swept = ["opset=17", "name=a+b"]
    folder.points[1].exit_code = ExitCode.CONFIG
    folder.points[1].problems = [EVIL]
    folder.end(2, ExitCode.OK, ok("good"), ok("bad"))
    folder.journal.close(ExitCode.CONFIG)
    path = tmp_path / "sweep.html"
    browser.get(path.as_uri())
    return path


def test_it_needs_nothing_but_itself(browser: Chrome, opened: Path) -> None:
    assert [url for url in requests(browser) if not url.startswith("data:")] == [opened.as_uri()]
    assert browser.title == "Sweep zoo over opset"
    assert EVIL in browser.find_element(By.TAG_NAME, "main").text


def test_a_point_links_to_its_run(browser: Chrome, opened: Path) -> None:
    report = opened.parent / "opset=17,name=a+b" / "manifest.json"
    browser.find_element(By.LINK_TEXT, "opset=17,name=a+b").click()
    assert "schema_version" in browser.page_source
    assert browser.current_url.endswith("manifest.json")
    assert report.is_file()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(browser: Chrome, opened: Path, scheme: str) -> None:
    feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    assert browser.execute_script(CONTRAST) == []
    page = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (page == "rgb(255, 255, 255)") == (scheme == "light")


def test_a_phone_scrolls_the_matrix_and_not_the_page(browser: Chrome, opened: Path) -> None:
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    browser.get(opened.as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
    matrix = browser.find_element(By.CSS_SELECTOR, "[aria-labelledby=models]")
    assert browser.execute_script(
        "return arguments[0].scrollWidth > arguments[0].clientWidth", matrix
    )


def test_the_keyboard_reaches_everything(browser: Chrome, opened: Path) -> None:
    body = browser.find_element(By.TAG_NAME, "body")
    reached = []
    for _ in range(6):
        body.send_keys(Keys.TAB)
        focused = browser.switch_to.active_element
        reached.append(focused.get_attribute("id") or focused.text or focused.tag_name)
        body = focused
    assert {"opset=13", "opset=17,name=a+b", "notable"} <= set(reached)
    browser.find_element(By.ID, "notable").send_keys(Keys.SPACE)
    rows = browser.find_elements(By.CSS_SELECTOR, "[aria-labelledby=models] tbody tr")
    assert [row.text.split()[0] for row in rows if row.is_displayed()] == ["bad"]
    browser.find_element(By.ID, "notable").send_keys(Keys.SPACE)
    browser.find_element(By.ID, "changing").send_keys(Keys.SPACE)
    assert [row.text.split()[0] for row in rows if row.is_displayed()] == ["bad"]
    heads = browser.find_elements(By.CSS_SELECTOR, "[aria-labelledby=models] thead th")
    # The one that was refused has nothing to show: why is said above.
    assert [head.text for head in heads][-2:] == ["opset=13", "opset=17,name=a+b"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Chrome, opened: Path, scheme: str) -> None:
    feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", feature)
    assert violations(browser) == []
