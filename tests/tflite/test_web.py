"""The page of tflite/web: its assembly, and the page itself in headless Chromium."""

import importlib.util
import json
import math
import pathlib
import re

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from apps import train
from apps.web_page import LITERT_FILES
from spfde_keras.export import run_tflite
from tests.tflite import browser

SCRIPT = pathlib.Path(__file__).parents[2] / "tflite" / "web" / "build.py"
SUBNETS = ("subnet_50", "subnet_90")


@pytest.fixture(scope="module")
def cli():
    spec = importlib.util.spec_from_file_location("web_build_cli", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two sub-nets on the digits, with its dense file beside the sparse one."""
    import keras

    from spfde_keras import export_tflite

    folder = tmp_path_factory.mktemp("run")
    options = "--model=mlp --width=0.25 --method=ast --sparsity=0.5,0.9 --epochs=6 --interval=1"
    options += f" --freeze_reduction=0 --sieve_fraction=0 --output_dir={folder}"
    assert train.main(options.split()) == 0
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    export_tflite(model, folder / "dense.tflite", sparse=False)
    return folder


@pytest.fixture(scope="module")
def litert(tmp_path_factory, cli):
    """Files named as those of LiteRT.js."""
    folder = tmp_path_factory.mktemp("node_modules")
    for name in LITERT_FILES:
        file = folder / "@litertjs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return folder


def answers(run, subnet, pixels, file="dense.tflite"):
    """The probabilities that LiteRT in Python gives for 64 pixels."""
    results = json.loads((run / "results.json").read_text())
    x = np.reshape(pixels, (1, 8, 8, 1)) - results["pixel_mean"][0]
    logits = run_tflite(run / file, x / results["pixel_std"][0], subnet)[0].astype("float64")
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


class TestBuild:
    def test_the_folder_holds_all_that_the_page_names(self, cli, run, litert, digits, tmp_path):
        cli.build(str(run), str(run / "dense.tflite"), str(tmp_path / "page"), str(litert))

        page = tmp_path / "page"
        told = json.loads((page / "run.json").read_text())
        for kind, source in (("dense", "dense.tflite"), ("sparse", "model.tflite")):
            assert told["files"][kind]["url"].startswith(f"{kind}.tflite?")
            assert (page / f"{kind}.tflite").read_bytes() == (run / source).read_bytes()
        html = (page / "index.html").read_text()
        scripts = "".join(file.read_text() for file in page.glob("*.js"))
        named = re.findall(r'(?:href|src)="([^"]*)"|": "(\./[^"]+)"', html)
        named = [a or b for a, b in named] + re.findall(r'from "(\./[^"]+)"', scripts)
        assert len(named) >= 8 and all((page / n).is_file() for n in named if n != "data:,")
        assert [file.name for file in tmp_path.iterdir()] == ["page"]

        assert told["files"]["sparse"]["bytes"] == (run / "model.tflite").stat().st_size
        assert [subnet["name"] for subnet in told["subnets"]] == list(SUBNETS)
        assert [sample["label"] for sample in told["samples"]] == 2 * list(range(10))
        tests = {x.tobytes() for x in digits.test_x}
        assert all(np.uint8(sample["pixels"]).tobytes() in tests for sample in told["samples"])

    def test_replaces_an_earlier_page_and_nothing_else(self, cli, run, litert, tmp_path):
        def build():
            cli.build(str(run), str(run / "dense.tflite"), str(page), str(litert))

        page = tmp_path / "page"
        build()
        (page / "stale.js").touch()
        build()
        assert not (page / "stale.js").exists() and (page / "main.js").exists()
        (page / "run.json").unlink()  # so that it is some other folder
        with pytest.raises(ValueError, match="`out` must be new, or the folder of an earlier page"):
            build()
        assert (page / "main.js").exists()

    def test_refuses_a_dense_file_of_another_model(self, cli, run, litert, tmp_path):
        other = tmp_path / "other.tflite"
        one, two = (subnet.encode() for subnet in SUBNETS)
        exchanged = {one: two, two: one}
        content = (run / "dense.tflite").read_bytes()
        other.write_bytes(re.sub(one + b"|" + two, lambda found: exchanged[found[0]], content))
        with pytest.raises(ValueError, match="`dense` must hold the run's own model"):
            cli.build(str(run), str(other), str(tmp_path / "page"), str(litert))
        assert not (tmp_path / "page").exists()

    @pytest.mark.parametrize(
        "content, message",
        [
            (None, "`run` must be a folder of apps.train"),
            ("{}", "`run` must be a folder of apps.train"),
            ("nonsense", "`run` must be a folder of apps.train"),
            ('{"config": {"dataset": "mnist"}}', "`run` must be a run on the digits"),
        ],
    )
    def test_refuses_a_folder_that_is_no_run(self, cli, litert, tmp_path, content, message):
        if content is not None:
            (tmp_path / "results.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            cli.build(str(tmp_path), "dense.tflite", str(tmp_path / "page"), str(litert))

    def test_an_error_is_one_line(self, cli, run, tmp_path):
        flags.FLAGS.mark_as_parsed()
        with (
            flagsaver.flagsaver(dense=str(run / "dense.tflite"), node_modules=str(tmp_path)),
            pytest.raises(SystemExit, match="^error: `node_modules` must hold .*mobile-kit.*") as e,
        ):
            cli.main(["build.py", str(run), str(tmp_path / "page")])
        assert "\n" not in str(e.value)


@pytest.fixture(scope="module")
def site(cli, run, tmp_path_factory):
    """A folder to serve: the page of the run, and in `single` one of a file of one net."""
    import keras

    from spfde_keras import densify, export_tflite

    node_modules = cli._NODE_MODULES.default
    if not pathlib.Path(node_modules, "@litertjs", "core").is_dir():
        pytest.skip("LiteRT.js is not installed: make mobile-kit")
    page = tmp_path_factory.mktemp("web") / "page"
    cli.build(str(run), str(run / "dense.tflite"), str(page), node_modules)

    single = tmp_path_factory.mktemp("single")
    results = json.loads((run / "results.json").read_text())
    (single / "results.json").write_text(json.dumps(results | {"subnets": results["subnets"][:1]}))
    model = keras.saving.load_model(run / "model.keras", compile=False)
    files = single / "model.tflite", single / "dense.tflite"
    for file, sparse in zip(files, (None, False), strict=True):
        export_tflite(densify(model, subnet=0), file, sparse=sparse)
    cli.build(str(single), str(files[1]), str(page / "single"), node_modules)
    return page


@pytest.fixture(scope="module")
def address(site):
    with browser.served(site) as address:
        yield address


class Page(browser.Page):
    """The page, as a user meets it."""

    ready = "mlp"

    def find(self, selector: str):
        return self.driver.find_element("css selector", selector)

    def pixels(self) -> list[int]:
        """What the net reads, from the canvas that shows it."""
        script = """const canvas = document.getElementById("pixels");
            const { data } = canvas.getContext("2d").getImageData(0, 0, 8, 8);
            return Array.from({ length: 64 }, (_, i) => Math.round(data[4 * i + 3] * 16 / 255));"""
        return self.driver.execute_script(script)

    def expect(self, probabilities: np.ndarray, subnet: str) -> None:
        """Waits until the page gives the answer of `subnet` with these probabilities."""
        best = int(probabilities.argmax())
        start = f"{subnet} says {best}, with a probability of "
        self.wait(lambda: self.text("sentence").startswith(start))
        shown = self.driver.execute_script(
            "return [...document.querySelectorAll('.column')].map((c) => c.title)"
        )
        assert self.text("digit") == str(best)
        for digit, title in enumerate(shown):
            label, percent = re.fullmatch(r"(\d): (.*) %", title).groups()
            assert int(label) == digit
            assert float(percent) == pytest.approx(100 * probabilities[digit], abs=0.06)

    def sample(self, index: int) -> list[int]:
        self.driver.find_elements("css selector", "#samples button")[index].click()
        return self.pixels()

    def choose(self, subnet: str) -> None:
        self.find(f"label:has([value={subnet}])").click()

    def measured(self, subnet: str) -> dict[str, dict[str, str]]:
        """The bars' figures, by heading and file, once `subnet` has been measured."""
        self.wait(lambda: f"Latency of {subnet}" in self.text("comparison"))
        return {
            group.find_element("css selector", "h3").text: dict(
                bar.text.split("\n") for bar in group.find_elements("css selector", ".bar")
            )
            for group in self.driver.find_elements("css selector", ".measure")
        }


@pytest.fixture
def page(chromium, address):
    return Page(chromium, address)


@pytest.mark.browser
class TestPage:
    def test_classifies_the_samples_as_litert_does_in_python(self, page, run):
        right = 0
        for index in range(0, 20, 3):
            probabilities = answers(run, "subnet_50", page.sample(index))
            page.expect(probabilities, "subnet_50")
            right += probabilities.argmax() == index % 10
        assert right >= 5  # of 7

    def test_shows_two_latencies_and_the_sizes(self, page, run):
        shown = page.measured("subnet_50")
        latency, size, compressed = shown.values()
        for kind in ("dense", "sparse"):
            value, unit = latency[kind].split()
            assert unit == "ms" and 0 < float(value) < 1000
        for kind, file in (("dense", "dense.tflite"), ("sparse", "model.tflite")):
            assert size[kind] == f"{(run / file).stat().st_size / 1e6:.2f} MB"
            assert float(compressed[kind].split()[0]) <= float(size[kind].split()[0])
        assert page.find("#agreement").text.startswith("The outputs of the two files differ by ")

    @pytest.mark.parametrize("width", [390, 1280])
    def test_samples_can_be_seen_and_touched(self, page, width):
        page.driver.set_window_size(width, 900)
        script = """return [...document.querySelectorAll("#samples button")].map((button) => {
            const [one, other] = [button, button.firstElementChild].map(
              (element) => element.getBoundingClientRect());
            return [one.width, other.width, other.height];
        })"""
        for button, picture, height in page.driver.execute_script(script):
            assert picture >= 36 and height == pytest.approx(picture, abs=1)
            assert button - picture <= 4  # its borders
        overflow = "return document.documentElement.scrollWidth - innerWidth"
        assert page.driver.execute_script(overflow) <= 0

    def test_switching_the_sub_net_changes_who_answers(self, page, run):
        def both(pixels):
            return [answers(run, subnet, pixels) for subnet in SUBNETS]

        # A sample that they do not agree on.
        apart = [np.ptp(both(page.sample(index)), axis=0).max() for index in range(20)]
        first, second = both(page.sample(int(np.argmax(apart))))
        assert max(apart) > 0.001
        page.expect(first, "subnet_50")
        page.choose("subnet_90")
        page.expect(second, "subnet_90")
        assert page.measured("subnet_90")

    def test_a_file_of_one_net_offers_no_choice(self, chromium, address, run):
        page = Page(chromium, address + "single/")
        page.expect(answers(run, "subnet_50", page.pixels()), "subnet_50")
        assert not page.find("#subnets").is_displayed()

    def test_a_digit_drawn_with_the_mouse(self, page, run):
        from selenium.webdriver import ActionChains

        pad = page.find("#pad")
        radius = pad.size["height"] / 3
        circle = [
            (round(0.6 * radius * math.sin(a)), round(-radius * math.cos(a)))
            for a in np.linspace(0, 2 * math.pi, 25)
        ]
        actions = ActionChains(page.driver, duration=0)
        actions.move_to_element_with_offset(pad, *circle[0]).click_and_hold()
        for x, y in circle[1:]:
            actions.move_to_element_with_offset(pad, x, y)
        actions.release().perform()

        pixels = np.reshape(page.pixels(), (8, 8))
        # As high as the frame, hollow, about as much ink as in the data set.
        assert pixels[0].max() > 8 and pixels[7].max() > 8
        assert pixels[3:5, 3:5].max() < 4 < pixels.mean() < 6
        probabilities = answers(run, "subnet_50", pixels)
        assert probabilities.argmax() == 0
        page.expect(probabilities, "subnet_50")
        page.find("#clear").click()
        page.wait(lambda: page.text("sentence") == "Draw a digit, or take a sample.")
        assert not any(page.pixels())

    def test_everything_works_from_the_keyboard(self, page, run):
        from selenium.webdriver import ActionChains, Keys

        def press(*keys):
            ActionChains(page.driver).send_keys(*keys).perform()

        def focused():
            return page.driver.switch_to.active_element

        press(Keys.TAB)
        assert focused().get_attribute("id") == "pad"
        press(*[Keys.ARROW_UP] * 8, " ", *[Keys.ARROW_DOWN] * 16, " ", Keys.ARROW_RIGHT)
        pixels = np.reshape(page.pixels(), (8, 8))
        assert (pixels[:, 3:5] > 8).all() and not pixels[:, [0, 1, 6, 7]].any()
        page.expect(answers(run, "subnet_50", pixels), "subnet_50")
        press(Keys.ESCAPE)
        assert not any(page.pixels())
        press(Keys.TAB)
        assert focused().get_attribute("id") == "clear"
        press(Keys.TAB, Keys.ENTER)
        assert focused().get_attribute("aria-label") == "Sample of a 0"
        assert focused().get_attribute("aria-pressed") == "true"
        press(*[Keys.TAB] * 20)
        assert focused().get_attribute("name") == "subnet"
        press(Keys.ARROW_RIGHT)
        page.expect(answers(run, "subnet_90", page.pixels()), "subnet_90")

    def test_asks_no_other_server(self, page, address, site):
        page.measured("subnet_50")
        urls = browser.asked(page.driver)
        files = json.loads((site / "run.json").read_text())["files"].values()
        assert {address, *(address + file["url"] for file in files)} <= urls
        assert [url for url in urls if not url.startswith(address)] == []

    def test_says_why_it_cannot_run(self, chromium, address, site):
        file = site / "sparse.tflite"
        hidden = file.rename(site / "hidden")
        try:
            assert Page(chromium, address).text("status").startswith("The page cannot run: ")
        finally:
            hidden.rename(file)
