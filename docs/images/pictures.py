"""Make the pictures of the page that the docs show, from rendered clips and a model that is taught here.

    python docs/images/pictures.py [FOLDER]

``FOLDER`` keeps clips, model and library for the next time. It needs the extras ``app``, ``lite`` and
``text``, Playwright and a Chromium.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from sacma.app.server import open_models, serving
from sacma.cli import main as sacma
from sacma.datasets.avshapes import CLASSES
from sacma.datasets.avshapes.examples import write_mp4
from sacma.learn import is_learned
from sacma.progress import SILENT

sys.path.insert(0, str(Path(__file__).parents[1] / "results"))
from real_input import join_clips

OUT = Path(__file__).parent
NAMES = ("bar", "circle", "square", "star", "triangle")
TAUGHT, SECONDS = 3, 60.0


def clips(folder: Path, film: Path, star: Path) -> None:
    """Render clips in a folder for each shape, a film of three shapes, and a clip that is new."""
    new = []
    for name in NAMES:
        some = [one for one in CLASSES if one.startswith(name)]
        for number in range(TAUGHT + 1):
            path = folder / name / f"{name}-{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_mp4(some[number % len(some)], number, path, size=224)
        new.append(path)
    join_clips(film, [new[0], new[1], new[3]])
    shutil.move(new[3], star)
    for one in (*new[:3], new[4]):
        one.unlink()


def ask(page: Page, *some: Path) -> None:
    """Drop clips and ask."""
    page.wait_for_selector("body[data-ready]", state="attached")
    page.set_input_files("#clip input[type=file]", [str(one) for one in some])
    page.wait_for_selector("#clip .file-preview")
    page.click("#ask")
    page.wait_for_function(f"document.querySelectorAll('#result .sx-answer').length == {len(some)}")
    page.wait_for_timeout(1500)  # players show their first picture


def taken(browser: Any, address: str, film: Path, star: Path) -> None:
    """Visit the page and write the pictures."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(120_000)
    page.goto(address)
    ask(page, film)
    page.screenshot(path=OUT / "app-desktop.png", full_page=True)
    page.get_by_role("tab", name="Search").click()
    page.click("#by-example button")
    page.set_input_files("#like input[type=file]", str(star))
    page.wait_for_selector("#like .file-preview")
    page.click("#find")
    page.wait_for_selector("#found .sx-card")
    page.wait_for_timeout(2500)
    page.screenshot(path=OUT / "app-search.png")
    phone = browser.new_context(
        viewport={"width": 390, "height": 844}, color_scheme="dark", device_scale_factor=2
    ).new_page()
    phone.set_default_timeout(120_000)
    phone.goto(address)
    ask(phone, star)
    phone.locator("#result").scroll_into_view_if_needed()
    phone.evaluate("document.querySelector('#result').scrollIntoView()")
    phone.wait_for_timeout(500)
    phone.screenshot(path=OUT / "app-phone.png")


def main() -> None:
    """Make the clips, a model and a library of them, and the pictures."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)
        film, star = place / "three shapes.mp4", place / "what is it.mp4"
        if not film.is_file():
            clips(place / "clips", film, star)
        if not is_learned(place / "mine"):
            sacma(["learn", str(place / "clips"), "--out", str(place / "mine")])
        sacma(["index", str(place / "clips"), "--out", str(place / "library")])
        models = open_models(None, SILENT, max_seconds=SECONDS, teach=place / "mine")
        options: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "max_seconds": SECONDS}
        options |= {"max_megabytes": 50, "library": place / "library"}
        with serving(models[:1], **options) as address, sync_playwright() as play:
            program = shutil.which("chromium") or shutil.which("google-chrome")
            browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
            taken(browser, address, film, star)
            browser.close()


if __name__ == "__main__":
    main()
