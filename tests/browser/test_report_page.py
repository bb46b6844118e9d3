"""The page in a real browser: what a person does with it, and what it must not do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from selenium.common.exceptions import NoSuchElementException
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from converter.model.manifest import ArtifactRow, Manifest
from converter.model.records import Branch, InputDomain, SymbolDomain
from tests.browser.conftest import Open, requests, violations
from tests.manifests import (
    CPU,
    CUDA,
    deployed,
    failed,
    manifest_of,
    ok,
    timed,
    verified_on,
    with_domain,
)

pytestmark = pytest.mark.browser

EVIL = '</script><img src=x onerror="alert(1)">"\'><b>bold</b>'


@pytest.fixture
def zoo() -> Manifest:
    return manifest_of(
        ok("alpha", nodes=8, latency=[timed(CPU, 3.0), timed(CUDA, 0.5)]),
        ok("beta", nodes=100, opset=13, size=2_000_000_000, latency=[timed(CPU, 20.0)]),
        failed("gamma", tags=["nightly"]),
        failed("delta"),
        ok("epsilon", nodes=30, latency=[timed(CPU, 1.0)]),
    )


def visible(browser: Chrome) -> list[str]:
    """The models that the table shows, in its order."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#rows tbody tr')]"
        ".filter((row) => !row.hidden).map((row) => row.cells[0].textContent)"
    )


def head(browser: Chrome, title: str) -> Any:
    # The table comes with the first frame that is drawn.
    path = f"//table[@id='rows']//th[button[text()='{title}']]"
    return wait(browser, lambda browser: browser.find_element(By.XPATH, path))


def wait(browser: Chrome, condition: Callable[[Chrome], Any]) -> Any:
    waiting = WebDriverWait(browser, 60, ignored_exceptions=[NoSuchElementException])
    return waiting.until(condition)


def test_it_opens_without_a_request_or_a_complaint(
    browser: Chrome, open_report: Open, zoo: Manifest
) -> None:
    path = open_report(zoo)
    assert browser.title == "zoo: 2 of 5 models failed unexpectedly."
    for plot in browser.find_elements(By.CSS_SELECTOR, ".plot"):
        browser.execute_script("arguments[0].scrollIntoView()", plot)
        wait(browser, lambda _, plot=plot: plot.get_attribute("data-drawn"))
        for axis in ("xtitle", "ytitle"):
            assert plot.find_element(By.CSS_SELECTOR, f".{axis}").text
        assert "Axes: x: " in plot.accessible_name
    asked = [url for url in requests(browser) if not url.startswith(("data:", "blob:"))]
    assert asked == [path.as_uri()]


def test_a_click_on_a_head_sorts(browser: Chrome, open_report: Open, zoo: Manifest) -> None:
    open_report(zoo)
    size = head(browser, "Size")
    size.find_element(By.TAG_NAME, "button").click()
    assert size.get_attribute("aria-sort") == "descending"
    assert visible(browser)[:3] == ["beta", "alpha", "epsilon"]
    size.find_element(By.TAG_NAME, "button").click()
    assert size.get_attribute("aria-sort") == "ascending"
    # What has no value stays last, whichever way.
    assert set(visible(browser)[3:]) == {"gamma", "delta"}
    assert visible(browser)[2] == "beta"
    head(browser, "Model").find_element(By.TAG_NAME, "button").click()
    assert visible(browser) == ["alpha", "beta", "delta", "epsilon", "gamma"]
    assert size.get_attribute("aria-sort") is None
    head(browser, "p50 CPU, ms").find_element(By.TAG_NAME, "button").click()
    assert visible(browser)[:3] == ["beta", "alpha", "epsilon"]
    for _ in range(2):  # text without a value stays last as well
        head(browser, "Exporter").find_element(By.TAG_NAME, "button").click()
        assert set(visible(browser)[3:]) == {"gamma", "delta"}


def test_search_and_filters_narrow_the_table(
    browser: Chrome, open_report: Open, zoo: Manifest
) -> None:
    open_report(zoo)
    shown = browser.find_element(By.ID, "shown")
    search = browser.find_element(By.ID, "search")
    search.send_keys("nightly")  # a tag
    assert visible(browser) == ["gamma"]
    assert shown.text == "1 of 5 models"
    search.clear()
    search.send_keys("factor GRAPH")  # words of the message
    assert visible(browser) == ["gamma", "delta"]
    search.clear()
    search.send_keys("no such model")
    assert (visible(browser), shown.text) == ([], "0 of 5 models")
    browser.find_element(By.CSS_SELECTOR, "#filter button").click()
    assert len(visible(browser)) == 5

    Select(browser.find_element(By.ID, "by-status")).select_by_value("ok")
    assert visible(browser) == ["alpha", "beta", "epsilon"]
    Select(browser.find_element(By.ID, "by-opset")).select_by_visible_text("17")
    assert visible(browser) == ["alpha", "epsilon"]
    assert shown.get_attribute("role") == "status"


def test_columns_can_be_shown_and_hidden(browser: Chrome, open_report: Open, zoo: Manifest) -> None:
    open_report(zoo)
    assert not head(browser, "export, s").is_displayed()
    assert head(browser, "p50 CUDA, ms").is_displayed()
    browser.find_element(By.CSS_SELECTOR, "[data-columns=stages]").click()
    assert head(browser, "export, s").is_displayed()
    browser.find_element(By.CSS_SELECTOR, "[data-columns=latency]").click()
    assert not head(browser, "p50 CUDA, ms").is_displayed()


def test_a_link_opens_the_section_of_its_model(
    browser: Chrome, open_report: Open, zoo: Manifest
) -> None:
    open_report(zoo)
    section = browser.find_element(By.ID, "model-gamma")
    message = section.find_element(By.CSS_SELECTOR, ".message")
    assert not message.is_displayed()
    browser.find_element(By.CSS_SELECTOR, ".names a[href='#model-gamma']").click()
    wait(browser, lambda _: message.is_displayed())
    assert browser.switch_to.active_element.text.startswith("gamma")
    section.find_element(By.TAG_NAME, "summary").click()
    assert not message.is_displayed()
    browser.find_element(By.CSS_SELECTOR, "#rows a[href='#model-gamma']").click()  # the same link
    wait(browser, lambda _: message.is_displayed())
    text = browser.find_element(By.ID, "model-alpha").get_attribute("textContent")
    for part in (
        "batch × 3 × ?",
        "Nodes: 15 before",
        "3.00e-06",
        "dynamic, right at 2, 5",
        "select=",
    ):
        assert part in text


def test_a_code_leads_to_what_it_means(browser: Chrome, open_report: Open, zoo: Manifest) -> None:
    open_report(zoo)
    browser.find_element(By.CSS_SELECTOR, "#problems .code").click()
    told = browser.find_element(By.CSS_SELECTOR, ".explained:target")
    assert told.text.startswith("INPUT_DROPPED\nMeans ")
    top = browser.execute_script("return arguments[0].getBoundingClientRect().top", told)
    assert 0 <= top < 1000


def test_the_keyboard_is_enough(browser: Chrome, open_report: Open, zoo: Manifest) -> None:
    open_report(zoo)

    def press(*keys: str) -> None:
        ActionChains(browser).send_keys(*keys).perform()

    press(Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the table of models"
    press(Keys.ENTER)
    press(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("id") == "search"
    press("a", "l", "p", "h", "a")
    assert visible(browser) == ["alpha"]
    for _ in range(40):
        press(Keys.TAB)
        if browser.switch_to.active_element.text.startswith("Nodes"):
            break
    press(Keys.SPACE)
    assert head(browser, "Nodes").get_attribute("aria-sort") == "descending"
    region = browser.find_element(By.CSS_SELECTOR, "#table .scroll")
    assert (region.get_attribute("tabindex"), region.aria_role) == ("0", "region")


def test_everything_that_can_be_operated_has_a_name(
    browser: Chrome, open_report: Open, zoo: Manifest
) -> None:
    open_report(zoo)
    for element in browser.find_elements(By.CSS_SELECTOR, "button, input, select, .scroll, .plot"):
        if element.is_displayed():
            assert element.accessible_name, element.get_attribute("outerHTML")[:200]


def test_light_and_dark(browser: Chrome, open_report: Open, zoo: Manifest) -> None:
    def background() -> str:
        return browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")

    open_report(zoo)
    button = browser.find_element(By.ID, "theme")
    light = background()
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    dark = background()
    assert dark != light
    assert button.get_attribute("aria-pressed") == "true"
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    open_report(zoo)
    assert background() == dark


def test_a_phone_needs_no_sideways_scrolling(
    browser: Chrome, open_report: Open, zoo: Manifest
) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    open_report(zoo)
    browser.find_element(By.ID, "open-all").click()
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    assert head(browser, "Worst error").is_displayed()
    assert not head(browser, "Exporter").is_displayed()


@pytest.mark.parametrize("width", [390, 1200])
def test_a_long_domain_needs_no_sideways_scrolling(
    browser: Chrome, open_report: Open, width: int
) -> None:
    symbol = SymbolDomain(symbol="input_height", traced=255, sizes=[*range(1, 900, 2)])
    patterns = [f"around {limit}" for limit in range(40)]
    held = InputDomain(name="padding_mask", dtype="bool", low=0, high=1, patterns=patterns)
    long = "if " + "x" * 90
    domain = verified_on(
        unreached=7,
        symbols=[symbol],
        inputs=[held],
        left_out=[f"input_height={size}" for size in range(40)],
        dropped=[f"{long}: its outputs are not finite"] * 7,
        limits=[long],
    )
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width == 390}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    open_report(manifest_of(with_domain(ok("a"), domain)))
    browser.find_element(By.CSS_SELECTOR, "#unreached a").click()
    section = browser.find_element(By.ID, "model-a")
    wait(browser, lambda _: section.get_attribute("open"))
    lists = section.find_elements(By.XPATH, ".//h3[.='Verified on']/following-sibling::details")
    assert [part.get_attribute("open") for part in lists] == [None] * 3
    for part in lists:
        part.find_element(By.TAG_NAME, "summary").click()
        assert part.find_element(By.XPATH, "./*[2]").is_displayed()
    inner = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    whole, seen = browser.execute_script(inner)
    assert whole == seen
    assert "around 39" in section.find_element(By.CLASS_NAME, "domain").text


def test_hostile_text_is_only_text(browser: Chrome, open_report: Open) -> None:
    rows = [
        ok(EVIL, source=EVIL, tags=[EVIL], latency=[timed(CPU)]),
        failed("b", message=EVIL, status="crashed"),
    ]
    branch = Branch(file=EVIL, line=1, text=EVIL, outcome="true")
    values = InputDomain(name=EVIL, dtype="bool", patterns=[EVIL])
    domain = verified_on(unreached=0, inputs=[values], dropped=[EVIL], limits=[EVIL])
    domain = domain.model_copy(update={"unreached": [branch]})
    rows[0] = with_domain(rows[0], domain)
    open_report(manifest_of(*rows, experiment=EVIL, overrides=[EVIL]))
    assert browser.find_element(By.TAG_NAME, "h1").text == EVIL
    assert EVIL in visible(browser)
    for plot in browser.find_elements(By.CSS_SELECTOR, ".plot"):
        browser.execute_script("arguments[0].scrollIntoView()", plot)
        wait(browser, lambda _, plot=plot: plot.get_attribute("data-drawn"))
    assert browser.find_elements(By.CSS_SELECTOR, "img, b") == []
    browser.find_element(By.CSS_SELECTOR, "#rows a").click()
    wait(browser, lambda _: browser.find_element(By.CSS_SELECTOR, ".model .command").is_displayed())
    assert not [url for url in requests(browser) if url.endswith("/x")]


def many(count: int) -> Manifest:
    def row(i: int) -> ArtifactRow:
        if i % 20 == 1:
            return failed(f"model_{i:04}", mark=str(i % 7))
        return ok(f"model_{i:04}", nodes=i, latency=[timed(CPU, 1 + i % 90), timed(CUDA, 1.0)])

    return manifest_of(*(row(i) for i in range(count)))


@pytest.mark.parametrize("count", [121, 2000])
def test_many_models_stay_usable(
    browser: Chrome, open_report: Open, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path: Path = open_report(many(count))
    script = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
    opened = wait(browser, lambda _: browser.execute_script(script))
    with capsys.disabled():
        size = path.stat().st_size / 1e6
        print(f"\n{count} models: {size:.1f} MB, opened in {opened / 1000:.2f} s")
    head(browser, "Nodes").find_element(By.TAG_NAME, "button").click()
    assert visible(browser)[0] == f"model_{count - 1:04}"
    browser.find_element(By.ID, "search").send_keys("model_0007")
    assert visible(browser) == ["model_0007"]
    browser.find_element(By.CSS_SELECTOR, "#rows a[href='#model-model_0007']").click()
    section = wait(browser, lambda _: browser.find_element(By.ID, "model-model_0007"))
    wait(browser, lambda _: section.find_element(By.CSS_SELECTOR, ".command").is_displayed())
    assert size < 15


def test_a_section_that_was_packed_is_there_when_it_is_looked_at(
    browser: Chrome, open_report: Open
) -> None:
    """Of many models sections become elements when they come near, and their text stays text."""
    rows = [ok(f"model_{i}") for i in range(300)]
    rows[217] = failed("wrong", message=EVIL, status="crashed")
    open_report(manifest_of(*rows))
    assert browser.find_elements(By.ID, "model-wrong") == []
    browser.find_element(By.CSS_SELECTOR, ".names a[href='#model-wrong']").click()
    section = wait(browser, lambda _: browser.find_element(By.ID, "model-wrong"))
    wait(browser, lambda _: section.find_element(By.CSS_SELECTOR, ".message").text == EVIL)
    # Those that come near while one scrolls.
    chunk = browser.find_elements(By.CSS_SELECTOR, ".chunk")[1]
    browser.execute_script("arguments[0].scrollIntoView()", chunk)
    wait(browser, lambda _: len(chunk.find_elements(By.CSS_SELECTOR, ".model .body")) == 50)
    browser.find_element(By.ID, "open-all").click()
    wait(browser, lambda _: not browser.find_elements(By.CSS_SELECTOR, ".chunk > script"))
    names = browser.execute_script(
        "return [...document.querySelectorAll('.model .name')].map((name) => name.textContent)"
    )
    assert names == [row.label for row in rows]
    assert browser.find_elements(By.CSS_SELECTOR, "img, b") == []


def test_rows_are_made_when_they_come_near(browser: Chrome, open_report: Open) -> None:
    rows = [ok(f"model_{i:03}", source=f"<{i}>", tags=["a&b"] * (i == 777)) for i in range(1000)]
    open_report(manifest_of(*rows))
    # They come with the first frame that is drawn.
    wait(browser, lambda browser: len(visible(browser)) >= 200)
    assert len(visible(browser)) < 1000
    assert browser.find_element(By.ID, "rows").get_attribute("aria-rowcount") == "1001"
    search = browser.find_element(By.ID, "search")
    search.send_keys("<777>")
    assert visible(browser) == ["model_777"]
    search.clear()
    search.send_keys("A&B")
    assert visible(browser) == ["model_777"]
    browser.find_element(By.ID, "show-all").click()
    region = browser.find_element(By.CSS_SELECTOR, "#table .scroll")

    def whole(browser: Chrome) -> bool:
        browser.execute_script("arguments[0].scrollTop = arguments[0].scrollHeight", region)
        return len(visible(browser)) == 1000

    wait(browser, whole)
    assert visible(browser) == [row.label for row in rows]
    head(browser, "Source").find_element(By.TAG_NAME, "button").click()
    assert visible(browser)[:2] == ["model_000", "model_001"]
    # On paper all of them.
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert len(visible(browser)) == 1000


def test_without_scripts_there_is_a_plain_table(browser: Chrome, open_report: Open) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        open_report(manifest_of(*(ok(f"model_{i:03}") for i in range(300))))
        rows = browser.find_elements(By.CSS_SELECTOR, "#rows tbody tr")
        assert len(rows) == 300
        assert rows[299].text.startswith("model_299")
        assert not browser.find_element(By.ID, "filter").is_displayed()
        assert "need scripts" in browser.find_element(By.ID, "models").text
        assert browser.find_element(By.CSS_SELECTOR, "#rows td:last-child").text == "3.5"
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Chrome, open_report: Open, zoo: Manifest, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    whole = manifest_of(*zoo.rows, *deployed(2).rows)
    open_report(whole.model_copy(update={"runtimes": deployed(2).runtimes}))
    browser.find_element(By.ID, "open-all").click()
    assert browser.find_elements(By.ID, "matrix")
    assert violations(browser) == []


# Runtimes and precisions


def cells_of(browser: Chrome) -> list[str]:
    """The models of the matrix, in its order."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#cells tbody tr')]"
        ".filter((row) => !row.hidden).map((row) => row.cells[0].textContent)"
    )


def test_the_matrix_shows_one_figure_and_sorts_by_it(browser: Chrome, open_report: Open) -> None:
    open_report(deployed(12))
    shown = (
        "return [...document.querySelectorAll('#cells tbody td:nth-child(4)')]"
        ".map((cell) => cell.innerText.trim())"
    )
    verdicts = browser.execute_script(shown)
    assert verdicts[0] == "ok"
    assert verdicts[5] == "DERIVE"  # nothing to quantise
    Select(browser.find_element(By.ID, "matrix-figure")).select_by_value("latency")
    assert browser.execute_script(shown)[:2] == ["0.28 ms", "0.56 ms"]
    assert browser.execute_script(shown)[5] == "DERIVE"
    browser.find_elements(By.CSS_SELECTOR, "#cells thead button")[3].click()
    # The slowest first; what has no figure comes last.
    assert cells_of(browser)[0] == "model_11"
    assert cells_of(browser)[-1] == "model_05"


def test_the_matrix_is_narrowed_by_name_and_verdict(browser: Chrome, open_report: Open) -> None:
    open_report(deployed(12))
    verdict = Select(browser.find_element(By.ID, "matrix-verdict"))
    verdict.select_by_visible_text("VERIFY_VALUE")
    assert cells_of(browser) == ["model_07"]
    assert browser.find_element(By.ID, "matrix-shown").text == "1 of 12 models"
    verdict.select_by_value("not-ok")
    assert cells_of(browser) == ["model_03", "model_05", "model_07"]
    verdict.select_by_value("all-ok")
    browser.find_element(By.ID, "matrix-search").send_keys("MODEL_1")
    assert cells_of(browser) == ["model_10", "model_11"]


def test_the_best_file_for_a_budget_is_named(browser: Chrome, open_report: Open) -> None:
    open_report(deployed(12))
    best = browser.find_element(By.ID, "budget-best")
    assert best.text.startswith("12 of 12 models have a file within the budget.")
    Select(browser.find_element(By.ID, "budget-model")).select_by_visible_text("model_09")
    assert "model_09/openvino_ir on openvino 2026.4.1, fp32" in best.text
    browser.find_element(By.ID, "budget-mb").send_keys("10")
    # 30 MB in float32: int8 alone is small enough.
    assert "model_09/int8 on openvino 2026.4.1, int8: ok; 24.0 dB, 8.1 MB, 2.00 ms" in best.text
    browser.find_element(By.ID, "budget-ms").send_keys("1")
    assert best.text == "No file of model_09 is within the budget."
    plot = browser.find_element(By.CSS_SELECTOR, '[data-figure="figure-budget"]')
    browser.execute_script("arguments[0].scrollIntoView()", plot)
    wait(browser, lambda _: plot.get_attribute("data-drawn"))
    # Only this model is drawn, and all of it is beyond the budget.
    drawn = browser.execute_script(
        "return arguments[0].data.flatMap((trace) => trace.customdata"
        ".map((point, at) => [point.model, trace.marker.opacity[at]]))",
        plot,
    )
    assert {model for model, _ in drawn} == {"model_09"}
    assert {opacity for _, opacity in drawn} == {0.12}


def test_a_run_of_one_runtime_has_no_matrix(
    browser: Chrome, open_report: Open, zoo: Manifest
) -> None:
    open_report(zoo)
    assert browser.find_elements(By.ID, "matrix") == []
