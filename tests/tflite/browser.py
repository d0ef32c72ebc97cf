"""What tests of the web pages share: a server of a folder, and a page as a user meets it."""

import contextlib
import functools
import http.server
import json
import threading


class _Handler(http.server.SimpleHTTPRequestHandler):
    def end_headers(self):
        # A test takes a file away that others have loaded.
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder):
    """Serves a folder; yields its address."""
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Page:
    """A page in a browser, once it is ready or says that it cannot run.

    Args:
        driver: of the browser.
        address: of the page.
    """

    ready: str
    """What its status begins with when it is ready."""

    def __init__(self, driver, address):
        self.driver, self._address = driver, address
        self.load()

    def load(self):
        self.driver.get(self._address)
        self.wait(lambda: self.text("status").startswith((self.ready, "The page cannot run")))

    def wait(self, condition):
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.driver, 60, poll_frequency=0.05).until(lambda _: condition())

    def script(self, text):
        return self.driver.execute_script(f"return {text}")

    def text(self, name):
        return self.script(f"document.getElementById('{name}').textContent")


def asked(driver) -> set[str]:
    """The addresses that were requested, of servers and files, since it was last asked.

    Args:
        driver: as of the fixture `chromium`.
    """
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    # The browser's own start page asks chrome://.
    return {url for url in urls if not url.startswith(("data:", "chrome:"))}
