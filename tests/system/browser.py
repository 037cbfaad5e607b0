"""A Chromium that uses Cockpit as a person does; it has to be started in the machine's network."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from debian import PATIENCE, Failure
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

COCKPIT = "http://127.0.0.1:9090"
FRAME = "iframe[name='cockpit1:localhost/trafficmon']"
DESKTOP, PHONE = (1280, 900), (390, 844)
PATIENCE_S = 30.0 * PATIENCE
# When the first number is there, in seconds from when the page's frame began to load.
_WATCH = """
const watch = setInterval(() => {
    if (document.querySelector(".tile b")) {
        window.firstNumbers = performance.now() / 1000;
        clearInterval(watch);
    }
}, 5);
"""


class Browser:
    """One window; unless it says otherwise, what is looked for is in trafficmon's page."""

    def __init__(self, pictures: Path) -> None:
        """`pictures`: where they go."""
        self._pictures = pictures
        self._unread: list[str] = []
        pictures.mkdir(parents=True, exist_ok=True)
        options = webdriver.ChromeOptions()
        for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self._driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
        self._driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _WATCH})
        self.look_like(DESKTOP, dark=False)

    def close(self) -> None:
        """Ends it."""
        self._driver.quit()

    def look_like(self, size: tuple[int, int], *, dark: bool) -> None:
        """A window of that size, on a system that likes it dark or light."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def wait_for_theme(self, *, dark: bool) -> None:
        """Until the page is as dark as the system."""
        of_page = "return document.documentElement.classList.contains('dark')"
        self._soon(lambda: self.script(of_page) is dark, f"a page that is {'dark' if dark else 'light'}")

    def log_in(self, user: str, password: str) -> None:
        """Forgets who was logged in, logs in, and opens the page."""
        self._driver.switch_to.default_content()
        self._driver.delete_all_cookies()
        self._driver.get(f"{COCKPIT}/trafficmon")
        self._soon(lambda: self._driver.find_element(By.ID, "login-user-input").is_displayed(), "Cockpit's login")
        self._driver.execute_script("localStorage.clear(); sessionStorage.clear()")
        self.complaints()  # Cockpit asks first whether somebody is logged in, and is told that nobody is
        self._driver.find_element(By.ID, "login-user-input").send_keys(user)
        self._driver.find_element(By.ID, "login-password-input").send_keys(password)
        self._driver.find_element(By.ID, "login-button").click()
        self.enter()

    def enter(self) -> None:
        """Into the page's frame: when Cockpit, which has to log in and to start its bridge, has made it, and all of the
        page's files are there."""

        def inside() -> bool:
            self._driver.switch_to.default_content()
            self._driver.switch_to.frame(self._driver.find_element(By.CSS_SELECTOR, FRAME))
            return bool(self._driver.find_elements(By.CSS_SELECTOR, "#tabs"))

        def begun() -> bool:
            said = self.complaints()
            if any("ERR_NETWORK_CHANGED" in each for each in said):
                self._driver.refresh()  # an address of the machine changed, so Chromium gave up what it was loading
            else:
                self._unread = said
            return inside() and bool(self._driver.find_elements(By.CSS_SELECTOR, "#tabs a"))

        self._soon(inside, "a frame for trafficmon's page in Cockpit")
        self._soon(begun, "trafficmon's page to begin")

    def become_administrator(self, password: str) -> None:
        """By Cockpit's button and its dialog."""
        driver = self._driver
        driver.switch_to.default_content()

        def pressed() -> bool:
            for button in driver.find_elements(By.XPATH, "//button[contains(., 'Limited access')]"):
                if button.is_displayed():
                    button.click()
                    return True
            return False

        self._soon(pressed, "Cockpit's button for administrative access")
        field = "input[type=password]"
        self._soon(lambda: driver.find_element(By.CSS_SELECTOR, field).is_displayed(), "the dialog's password")
        driver.find_element(By.CSS_SELECTOR, field).send_keys(password + Keys.ENTER)
        self._soon(lambda: not driver.find_elements(By.CSS_SELECTOR, field), "the dialog to close")
        self.enter()

    def go(self, view: str) -> None:
        """To a view, as by its link."""
        self.script(f"location.hash = '#/{view}'")

    def click(self, selector: str, text: str = "") -> None:
        """Clicks the first that is there and says `text`, however often it is made again meanwhile."""

        def clicked() -> bool:
            found = self.find(selector, text)
            if found:
                found.click()
            return bool(found)

        self._soon(clicked, f"{selector} {text!r} to click on")

    def write(self, selector: str, text: str) -> None:
        """Writes into a field, in the place of what was there."""
        field = self.see(selector)
        field.clear()
        field.send_keys(text)

    def choose(self, selector: str, text: str) -> None:
        """One of a drop-down's choices."""
        Select(self.see(selector)).select_by_visible_text(text)

    def type(self, *keys: str) -> None:
        """Keys, to whatever has the focus."""
        for key in keys:
            self._driver.switch_to.active_element.send_keys(key)

    def tab_to(self, text: str) -> None:
        """Tab after tab, until what is called `text` has the focus."""
        for _ in range(60):
            self.type(Keys.TAB)
            if self._driver.switch_to.active_element.text == text:
                return
        raise Failure(f"expected the focus to come to {text!r}; the page says:\n{self._words()}")

    def turn_to(self, other: str) -> None:
        """To another page of Cockpit's, by its menu; it keeps this one."""
        self._driver.switch_to.default_content()
        self._driver.find_element(By.CSS_SELECTOR, f"a[href='{other}']").click()

    def find(self, selector: str, text: str = "") -> WebElement | None:
        """The first that can be seen and says `text`."""
        for element in self._driver.find_elements(By.CSS_SELECTOR, selector):
            with contextlib.suppress(WebDriverException):  # it has just been made again
                if element.is_displayed() and text in element.text:
                    return element
        return None

    def see(self, selector: str, text: str = "", within: float = PATIENCE_S) -> WebElement:
        """The same, waited for."""
        found: list[WebElement] = []

        def seen() -> bool:
            element = self.find(selector, text)
            found[:] = [element] if element else []
            return bool(found)

        self._soon(seen, f"{selector} with {text!r}", within)
        return found[0]

    def miss(self, selector: str, text: str = "") -> None:
        """Waits until there is none such."""
        self._soon(lambda: self.find(selector, text) is None, f"no {selector} with {text!r}")

    def script(self, text: str) -> object:
        """What a script says in the page."""
        return self._driver.execute_script(text)

    def first_numbers_s(self) -> float:
        """Seconds from opening the page, in a Cockpit that is open, to its first numbers."""
        self.script("location.reload()")
        self.enter()
        self.see(".tile b")
        return float(str(self.script("return window.firstNumbers")))

    def shoot(self, name: str) -> None:
        """A picture of the window."""
        self._driver.save_screenshot(str(self._pictures / f"{name}.png"))

    def complaints(self) -> list[str]:
        """Errors and warnings in the console since the last time that are of the page: Cockpit has some of its own."""
        entries = [entry for entry in self._driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        said, self._unread = self._unread, []
        return said + [str(entry["message"]) for entry in entries if "/trafficmon/" in entry["message"].split(" ")[0]]

    def _soon(self, holds: Callable[[], object], expected: str, within: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            with contextlib.suppress(WebDriverException):
                if holds():
                    return
            time.sleep(0.05)
        raise Failure(f"expected {expected} within {within:.0f} s; the page says:\n{self._words()}")

    def _words(self) -> str:
        with contextlib.suppress(WebDriverException):
            files = "performance.getEntriesByType('resource').filter(each => each.responseEnd).length"
            state = f"`${{location}}, ${{document.readyState}}, ${{{files}}} files\\n`"
            return str(self.script(f"return {state} + document.body.innerText"))[:1500]
        return "nothing"
