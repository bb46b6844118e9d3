"""The page of a published zoo in a real browser: search, cards, and nothing from elsewhere."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from converter.finalize import publication, zoo_index, zoo_page
from converter.finalize.zoo_index import Index
from converter.model.batch import PublishSpec
from converter.plugins.layouts import zoo
from tests.browser.conftest import requests, violations
from tests.manifests import CPU, manifest_of, timed
from tests.published import artifacts

pytestmark = pytest.mark.browser

EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    rows = [
        *artifacts(
            tmp_path, "alpha", "one", half="half", data="weights", license="MIT",
            tags=["vision"], latency=[timed(CPU, 3.0)],
        ),
        *artifacts(tmp_path, "beta", "two" * 500_000, license=EVIL),
    ]  # fmt: skip
    spec = PublishSpec(path=str(tmp_path / "zoo"))
    publication.check(spec)
    assert publication.publish(manifest_of(*rows), tmp_path, spec, None) == []
    return tmp_path / "zoo"


def shown(browser: Chrome) -> list[str]:
    names: list[str] = browser.execute_script(
        "return [...document.querySelectorAll('#rows tbody tr')]"
        ".filter((row) => !row.hidden).map((row) => row.cells[0].textContent)"
    )
    return names


def by(browser: Chrome, key: str) -> Select:
    return Select(browser.find_element(By.CSS_SELECTOR, f"[data-by={key}]"))


def test_models_are_searched_and_narrowed(browser: Chrome, published: Path) -> None:
    path = published / zoo_index.PAGE
    browser.get(path.as_uri())
    assert shown(browser) == ["alpha", "beta"]
    search = browser.find_element(By.ID, "search")
    search.send_keys("alp")
    assert shown(browser) == ["alpha"]
    assert browser.find_element(By.ID, "shown").text == "1 of 2"
    for _ in range(3):
        search.send_keys(Keys.BACKSPACE)
    by(browser, "precision").select_by_visible_text("float16")
    assert shown(browser) == ["alpha"]
    by(browser, "precision").select_by_index(0)
    by(browser, "bytes").select_by_visible_text("up to 1 MB")
    assert shown(browser) == ["alpha"]
    by(browser, "bytes").select_by_index(0)
    by(browser, "tag").select_by_visible_text("vision")
    assert shown(browser) == ["alpha"]
    asked = [url for url in requests(browser) if not url.startswith(("data:", "blob:"))]
    assert asked == [path.as_uri()]


def test_a_card_opens_and_closes(browser: Chrome, published: Path) -> None:
    browser.get((published / zoo_index.PAGE).as_uri())
    card = browser.find_element(By.ID, "card")
    assert not card.is_displayed()
    browser.find_element(By.XPATH, "//tbody//button[text()='alpha']").click()
    assert card.is_displayed()
    heads = [head.text for head in card.find_elements(By.CSS_SELECTOR, "th")]
    assert "commit" not in heads  # of no version, outside of a repository
    assert "run" in heads
    for told in ("MIT", "batch", "largest error", "3 ms", "Operators of the graph", "Versions"):
        assert told in card.text
    found = card.find_elements(By.CSS_SELECTOR, "a[download]")
    links = [str(link.get_attribute("href")) for link in found]
    assert links[0] == (published / "alpha/model.onnx").as_uri()
    assert all(Path(link.removeprefix("file://")).exists() for link in links)
    card.find_element(By.XPATH, ".//button[text()='Copy']").click()
    done = (By.XPATH, "//dialog//button[text()='Copied' or text()='Selected']")
    WebDriverWait(browser, 30).until(lambda page: page.find_elements(*done))
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not card.is_displayed()
    # The address of a card opens it.
    browser.get("about:blank")
    browser.get((published / zoo_index.PAGE).as_uri() + "#beta")
    assert browser.find_element(By.ID, "card").is_displayed()
    assert EVIL in browser.find_element(By.ID, "card").text


def test_many_models_open_quickly(browser: Chrome, published: Path) -> None:
    index = zoo_index.read(published)
    entry = index.models["alpha"]
    many = {f"model_{number:04}": entry for number in range(1500)}
    text = zoo_page.render(Index(models=many), zoo.OUTSIDE)
    assert len(text) < 8_000_000
    path = published / "many.html"
    path.write_text(text)
    start = time.monotonic()
    browser.get(path.as_uri())
    # The driver of a busy machine may say too early that a page is there.
    WebDriverWait(browser, 20).until(lambda page: len(shown(page)) == 1500)
    browser.find_element(By.ID, "search").send_keys("model_0777")
    assert shown(browser) == ["model_0777"]
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Chrome, published: Path, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get((published / zoo_index.PAGE).as_uri())
    assert violations(browser) == []
    browser.find_element(By.XPATH, "//tbody//button[text()='alpha']").click()
    assert violations(browser) == []
