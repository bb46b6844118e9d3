"""Chromium without a window, driven over its own protocol; nothing is downloaded."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from converter.model.manifest import Manifest
from converter.plugins.reports import html

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1400,1000",
)

Open = Callable[[Manifest], Path]


def _program(*names: str) -> str:
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(
            f"{names[0]} is not installed: on Debian `apt-get install chromium chromium-driver`; "
            'or leave these tests out with -m "not browser"'
        )
    return found


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """One browser for all tests, with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = _program("chromium", "chromium-browser", "google-chrome")
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # Without what tests of faults know their own processes by.
    usual = {key: value for key, value in os.environ.items() if not key.startswith("CONVERTER_")}
    service = Service(_program("chromedriver"), env=usual)
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """The browser on an empty page, with empty logs; it must have nothing to complain about."""
    chromium.get("about:blank")
    for log in ("browser", "performance"):
        chromium.get_log(log)
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    yield chromium
    assert chromium.get_log("browser") == []


@pytest.fixture
def open_report(browser: webdriver.Chrome, tmp_path: Path) -> Open:
    """Render a manifest's page, open it from the disk, and wait for its table.

    That comes with the first frame that is drawn.
    """

    def drawn(browser: webdriver.Chrome) -> bool:
        table = browser.find_elements(By.ID, "table")
        return not table or bool(table[0].find_elements(By.CSS_SELECTOR, "thead th"))

    def opened(manifest: Manifest) -> Path:
        path = tmp_path / html.FILE
        path.write_text(html.render(manifest, tmp_path), encoding="utf-8")
        browser.get(path.as_uri())
        WebDriverWait(browser, 60).until(drawn)
        return path

    return opened


_RUN_AXE = """
const done = arguments[arguments.length - 1];
axe.run(document, { resultTypes: ["violations"] }).then(
  ({ violations, passes }) => done([passes.length, violations.map(
    ({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 100)}: ${nodes[0].failureSummary}`)]));
"""


def violations(browser: webdriver.Chrome) -> list[str]:
    """What axe finds wrong with the page as it is shown."""
    axe = resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    browser.execute_script(axe)  # by the driver, which no policy of the page concerns
    passes, found = browser.execute_async_script(_RUN_AXE)
    assert passes > 10
    return list(found)


def requests(browser: webdriver.Chrome) -> list[str]:
    """Every address that the browser asked for since the test began."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
