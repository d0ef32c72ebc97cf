"""The page that learns digits: its assembly, and a user's visit in headless Chromium."""

import importlib.util
import json
import math
import pathlib
import re

import numpy as np
import pytest

from apps.web_page import NODE_MODULES
from tests.tflite import browser

SCRIPT = pathlib.Path(__file__).parents[2] / "tflite" / "web" / "build_learning.py"


@pytest.fixture(scope="module")
def cli():
    spec = importlib.util.spec_from_file_location("web_build_learning_cli", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_litert_js_the_remedy_is_named_before_work_starts(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "trained", lambda *_: pytest.fail("it was trained"))
    with pytest.raises(ValueError, match="`node_modules` must hold @litertjs/core: run `make mob"):
        cli.build(str(tmp_path / "page"), str(tmp_path), 1)
    (tmp_path / "other").mkdir()
    if pathlib.Path(NODE_MODULES, "@litertjs").is_dir():
        with pytest.raises(ValueError, match="`out` must be new, or the folder of an earlier"):
            cli.build(str(tmp_path / "other"), NODE_MODULES, 1)


@pytest.fixture(scope="module")
def site(cli, tmp_path_factory):
    if not pathlib.Path(NODE_MODULES, "@litertjs", "core").is_dir():
        pytest.skip("LiteRT.js is not installed: make mobile-kit")
    page = tmp_path_factory.mktemp("web") / "page"
    cli.build(str(page), NODE_MODULES, 6)
    return page


@pytest.fixture(scope="module")
def address(site):
    with browser.served(site) as address:
        yield address


class Visit(browser.Page):
    """The page, as a user meets it."""

    ready = "small_cnn"

    def __init__(self, driver, address):
        driver.set_window_size(1280, 1000)
        super().__init__(driver, address)

    def load(self):
        super().load()
        self.wait(lambda: not self.busy or "cannot" in self.text("status"))

    @property
    def busy(self):
        return self.script("document.getElementById('page').inert")

    def titles(self, name):
        return self.script(f"[...document.getElementById('{name}').children].map((c) => c.title)")

    def click(self, name):
        self.driver.find_element("id", name).click()

    def right(self, name):
        """Right test digits, of those known at the desk, and of those that are new."""
        return [int(number) for number in re.findall(r"(\d+) of \d+", self.text(name))]

    def draw_eight(self, lean):
        """Draws an 8 with the mouse."""
        from selenium.webdriver import ActionChains

        pad = self.driver.find_element("id", "pad")
        self.driver.execute_script("scrollTo(0, 0)")
        radius = pad.size["height"] / 3
        points = [
            (
                round(radius * (0.5 * math.sin(2 * a) - lean * math.cos(a))),
                round(-radius * math.cos(a)),
            )
            for a in np.linspace(0, 2 * math.pi, 40)
        ]
        actions = ActionChains(self.driver, duration=0)
        actions.move_to_element_with_offset(pad, *points[0]).click_and_hold()
        for point in points[1:]:
            actions.move_to_element_with_offset(pad, *point)
        actions.release().perform()
        self.wait(lambda: self.text("digit") != "–")

    def label(self, digit):
        before = self.text("own")
        self.driver.find_elements("css selector", "#labels button")[digit].click()
        self.wait(lambda: self.text("own") != before)


@pytest.mark.browser
class TestPage:
    @pytest.fixture
    def visit(self, chromium, address):
        return Visit(chromium, address)

    def test_a_net_learns_an_eight_keeps_it_and_forgets_it(self, visit, site):
        known, new = visit.right("before")
        assert known > 70 and new == 0 and visit.right("after") == [known, new]
        assert len(visit.titles("samples")) == 48 and len(visit.titles("blocks")) >= 3
        visit.draw_eight(0.0)
        assert visit.text("digit") != "8"
        visit.label(8)
        for lean in (0.1, 0.2, -0.1):
            visit.draw_eight(lean)
            visit.label(8)
        assert visit.text("own") == "4" and "8, " in visit.titles("samples")[-1]

        visit.click("train")
        visit.wait(lambda: visit.text("said").startswith("Learned in"))
        learned = visit.right("after")
        assert learned[0] > known - 10 and learned[1] > new
        assert sum("frozen" in title for title in visit.titles("blocks")) == 2
        assert any("resting" in title for title in visit.titles("samples"))
        visit.draw_eight(0.05)
        assert visit.text("digit") == "8"

        visit.load()
        assert visit.text("said") == "What was learned here before is back."
        assert visit.text("own") == "4" and visit.right("after") == learned
        visit.draw_eight(0.05)
        assert visit.text("digit") == "8"

        visit.click("forget")
        visit.wait(lambda: visit.text("said") == "The net is as it came.")
        assert visit.text("own") == "0" and visit.right("after") == [known, new]

    @pytest.mark.parametrize("width", [390, 1280])
    def test_it_fits_phones_and_desks(self, visit, width):
        visit.driver.set_window_size(width, 900)
        assert visit.script("document.documentElement.scrollWidth - innerWidth") <= 0

    def test_it_says_why_it_cannot_run(self, visit, site):
        file = site / "page.json"
        content = file.read_text()
        file.write_text(json.dumps(json.loads(content) | {"url": "gone.tflite"}))
        try:
            visit.load()
            assert visit.text("status").startswith("The page cannot run: ")
        finally:
            file.write_text(content)
