"""The page of thirty nights in a real browser: light and dark, on a phone, examined by axe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from converter.trends import page, report
from tests import made_nights
from tests.browser.conftest import requests, violations

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("nights") / "zoo"
    made_nights.leave(home, 80)
    report.write(home)
    return home / page.FILE


def look(browser: Chrome, path: Path, scheme: str = "light", width: int = 1400) -> None:
    """Open the page as a system of that scheme shows it."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    metrics = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(path.as_uri())


def visible(browser: Chrome) -> list[str]:
    found: list[str] = browser.execute_script(
        "return [...document.querySelectorAll('#strips tbody tr')]"
        ".filter((row) => !row.hidden).map((row) => row.cells[0].textContent)"
    )
    return found


@pytest.mark.parametrize("width", [1400, 900, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Chrome, written: Path, scheme: str, width: int) -> None:
    look(browser, written, scheme, width)
    for part in browser.find_elements(By.CSS_SELECTOR, "details"):
        browser.execute_script("arguments[0].open = true", part)
    assert violations(browser) == []
    # The tables scroll, the page does not.
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_it_opens_without_a_request(browser: Chrome, written: Path) -> None:
    look(browser, written)
    assert [url for url in requests(browser) if not url.startswith("data:")] == [written.as_uri()]
    told = "3 of 87 artifacts failed unexpectedly, 1 newly in the last night."
    assert browser.title == f"zoo over 30 nights: {told}"
    assert visible(browser)[:3] == ["model_0007", "model_0004", "model_0002"]


def test_search_and_choices_narrow_the_table(browser: Chrome, written: Path) -> None:
    look(browser, written)
    shown = browser.find_element(By.ID, "shown")
    only = Select(browser.find_element(By.ID, "only"))
    only.select_by_value("fails")
    assert visible(browser) == ["model_0007", "model_0001", "model_0051"]
    only.select_by_value("tonight")
    assert (visible(browser), shown.text) == (["model_0007"], "1 of 88")
    browser.find_element(By.ID, "show-all").click()
    browser.find_element(By.ID, "search").send_keys("TORCH 2.14.0 roll")
    assert visible(browser) == ["model_0001", "model_0051"]
    Select(browser.find_element(By.ID, "by-status")).select_by_value("ok")
    assert visible(browser) == []


def test_a_code_leads_to_what_it_means(browser: Chrome, written: Path) -> None:
    look(browser, written)
    links = browser.find_elements(By.CSS_SELECTOR, "#strips a.code")
    names = {link.get_attribute("textContent") for link in links}
    sections = browser.find_elements(By.CSS_SELECTOR, ".explained h3")
    assert names == {section.text for section in sections} != set()


def test_each_night_has_its_place_in_a_strip(browser: Chrome, written: Path) -> None:
    look(browser, written)
    sizes: list[Any] = browser.execute_script(
        "return [...document.querySelectorAll('#strips .strip')].map((strip) => ["
        "strip.textContent.length, Math.round(strip.getBoundingClientRect().width)])"
    )
    assert {letters for letters, _ in sizes} == {30}
    assert len({width for _, width in sizes}) == 1


def test_a_night_leads_to_its_report(browser: Chrome, written: Path) -> None:
    look(browser, written)
    links = browser.find_elements(By.CSS_SELECTOR, "#nights a")
    assert len(links) == 10
    links[0].click()
    assert browser.title == "a report"


def test_without_scripts_it_is_a_plain_table(browser: Chrome, written: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        look(browser, written)
        assert not browser.find_element(By.ID, "filter").is_displayed()
        assert not browser.find_element(By.ID, "theme").is_displayed()
        assert browser.find_element(By.CSS_SELECTOR, "#strips tbody tr").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
