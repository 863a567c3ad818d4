"""Lessons and questions opened in JupyterLab, in a real browser: they run, and answer what is done.

nbval runs the cells without a browser; only here do widgets appear and callbacks come back.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BROWSERS = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")
LOCAL = ("D2LPART_", "MPLBACKEND", "JUPYTER", "IPYTHON")  # variables that tests or learners set

# Until what hangs is given up; a busy machine takes its time.
START_SECONDS = 120
RUN_SECONDS = 600

IS_OPEN = "path => window.jupyterapp?.shell.currentWidget?.context?.path === path"
# Runs all cells, and returns whether all of them succeeded. A cell run before the kernel has
# answered is lost, so each part of the session is waited for by name.
RUN_ALL = """async seconds => {
    const panel = window.jupyterapp.shell.currentWidget;
    await panel.context.ready;
    await panel.sessionContext.ready;
    await panel.sessionContext.session.kernel.info;
    const late = new Promise(done => setTimeout(() => done('late'), 1000 * seconds));
    return await Promise.race([window.jupyterapp.commands.execute('notebook:run-all-cells'), late]);
}"""
CELLS = "() => window.jupyterapp.shell.currentWidget.model.toJSON().cells"
SHUT_DOWN = "() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()"
# Lab draws only the cells near the active one.
SHOW = """async index => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = index;
    await notebook.scrollToItem(index, 'start');
}"""


# A notebook with one question of each kind, all with hints.
KINDS = [
    "from d2lpart.course.questions.choices import NumberQuestion, Option, Question\n"
    "from d2lpart.course.questions.choices import Several\n"
    "from d2lpart.course.questions.arrangements import Ordering\n"
    "from d2lpart.course.questions.arrangements import Placing\n"
    "two = {'a': Option('one', 'It is 1.'), 'b': Option('two', 'It is 2.')}\n"
    "hints = ('look', 'think', 'count')",
    "Question('99.q1', 'Which?', two, 'b', hints=hints, worked='1 + 1 = 2')",
    "NumberQuestion('99.q2', 'How many?', 3, 'Three.', unit='MB', hints=hints)",
    "Several('99.q3', 'Which ones?', two, 'ab', hints=hints)",
    "events = {'x': 'the second', 'y': 'the first'}\n"
    "Ordering('99.q4', 'In what order?', events, 'yx', explain='y x.')",
    "def both(placement):\n"
    "    return None if placement == (0, 1) else 'Use both.'\n"
    "Placing('99.q5', 'Where?', 2, 2, judge_placement=both, answer=(0, 1), explain='Both are.')",
]


class Lab(NamedTuple):
    """A running JupyterLab: its address, the token it asks for, and the folder it serves."""

    address: str
    token: str
    folder: Path

    def url(self, path: str) -> str:
        """Return the address of a page."""
        return f"{self.address}/{path}?token={self.token}"


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lab_environment(home: Path) -> dict[str, str]:
    """Return variables that keep a learner's own settings out of the run, and the run out of them.

    The last two switch off the question about news, which lies over the page's corner.
    """
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LOCAL)}
    return kept | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
    }


def lab_command(port: int, token: str, folder: Path) -> list[str]:
    """Return the command that serves a folder on a port of this machine alone."""
    options = ["--no-browser", "--expose-app-in-browser", "--ServerApp.port_retries=0"]
    if os.name == "posix" and os.geteuid() == 0:
        options.append("--allow-root")
    options += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    options += [f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={token}"]
    options.append("--KernelManager.shutdown_wait_time=0.2")  # seconds; nobody needs its last words
    return [sys.executable, "-m", "jupyterlab", *options]


def wait_for(lab: Lab, server: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the server answers; fail with the end of its log if it does not."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(lab.url("api/status"), timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"JupyterLab does not start:\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab on a copy of the lessons, so that what it saves goes nowhere."""
    home = tmp_path_factory.mktemp("lab")
    folder = home / "notebooks"
    folder.mkdir()
    for lesson in LESSONS:
        shutil.copy(lesson, folder)
    port, token, log = free_port(), secrets.token_hex(), home / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            lab_command(port, token, folder),
            cwd=folder,
            env=lab_environment(home),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        found = Lab(f"http://127.0.0.1:{port}", token, folder)
        wait_for(found, server, log)
        yield found
    finally:
        server.terminate()  # the server ends its kernels
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def browser_path(playwright: Any) -> str | None:
    """Return a Chromium of this machine, or the one playwright has fetched; None without either."""
    own = Path(playwright.chromium.executable_path)
    found = (shutil.which(name) for name in BROWSERS)
    return next(filter(None, found), str(own) if own.exists() else None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium, which loads Lab's scripts once and keeps them for the next page.

    The tests are skipped where playwright or a Chromium is missing.
    """
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        path = browser_path(playwright)
        if path is None:
            pytest.skip("no Chromium on this machine; install the package chromium")
        quiet = ["--disable-dev-shm-usage", "--disable-background-networking", "--disable-sync"]
        sandbox = [] if os.name != "posix" or os.geteuid() else ["--no-sandbox"]
        chromium = playwright.chromium.launch(executable_path=path, args=[*quiet, *sandbox])
        context = chromium.new_context(viewport={"width": 1200, "height": 900})
        context.set_default_timeout(1000 * START_SECONDS)
        yield context
        chromium.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A fresh page, closed afterwards."""
    page = browser.new_page()
    yield page
    page.close()


def choice_cell(cells: list[dict[str, Any]]) -> int | None:
    """Return the index of the first cell whose output is a question with options."""
    for index, cell in enumerate(cells):
        for output in cell.get("outputs", []):
            text = "".join(output.get("data", {}).get("text/plain", ""))
            if "Answer with question(" in text and '.check("' in text:
                return index
    return None


def errors(cells: list[dict[str, Any]]) -> list[str]:
    """Return what went wrong in the cells, and which of them did not run."""
    found = []
    for number, cell in enumerate(cells, start=1):
        if cell["cell_type"] != "code":
            continue
        if cell["execution_count"] is None and "".join(cell["source"]).strip():
            found.append(f"cell {number} did not run")
        found += [
            f"cell {number}: {output['ename']}: {output['evalue']}"
            for output in cell["outputs"]
            if output["output_type"] == "error"
        ]
    return found


def answer_by_click(page: Any, index: int) -> str:
    """Click the first option of the question that a cell shows, and return what it answers."""
    page.evaluate(SHOW, index)
    question = page.locator(".jp-Cell.jp-mod-active .jupyter-widgets").first
    question.locator("button").first.click()
    status = question.locator('[role="status"]:not(:empty)')
    status.wait_for()
    return str(status.inner_text())


def watch(page: Any) -> list[str]:
    """Return a list that fills with the errors of the page's own scripts."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


def open_and_run(page: Any, lab: Lab, name: str) -> list[dict[str, Any]]:
    """Open a notebook of the lab, run all its cells, and return them; none may have failed."""
    page.goto(lab.url(f"lab/tree/{name}") + "&reset")  # reset: without the page before
    page.wait_for_function(IS_OPEN, arg=name)
    finished = page.evaluate(RUN_ALL, RUN_SECONDS)
    cells: list[dict[str, Any]] = page.evaluate(CELLS)
    assert not errors(cells)
    assert finished is True
    return cells


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_in_the_browser_and_answers_a_click(
    lesson: Path, lab: Lab, page: Any
) -> None:
    page_errors = watch(page)
    cells = open_and_run(page, lab, lesson.name)
    index = choice_cell(cells)
    assert (index is None) == (choice_cell(json.loads(lesson.read_text("utf-8"))["cells"]) is None)
    if index is not None:
        assert answer_by_click(page, index).startswith(("Right.", "Not yet."))
    assert not page_errors
    page.evaluate(SHUT_DOWN)


def notebook(cells: list[str]) -> str:
    """Return a notebook of code cells as text."""
    made = [
        {
            "cell_type": "code",
            "id": f"cell-{number}",
            "source": source,
            "metadata": {},
            "outputs": [],
            "execution_count": None,
        }
        for number, source in enumerate(cells)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel}  # without it, the page asks for a kernel
    return json.dumps({"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def shown(page: Any, index: int) -> Any:
    """Scroll to a cell and return its widget."""
    page.evaluate(SHOW, index)
    widget = page.locator(".jp-Cell.jp-mod-active .jupyter-widgets").first
    widget.wait_for()
    return widget


def replies(widget: Any, start: str) -> str:
    """Wait for a reply that starts so, and return it whole."""
    status = widget.locator('[role="status"]', has_text=start).last
    status.wait_for()
    return str(status.inner_text())


def test_questions_of_every_kind_are_answered_without_a_mouse(lab: Lab, page: Any) -> None:
    (lab.folder / "kinds.ipynb").write_text(notebook(KINDS), "utf-8")
    page_errors = watch(page)
    open_and_run(page, lab, "kinds.ipynb")

    choice = shown(page, 1)
    choice.get_by_role("button", name="b", exact=True).press("Enter")
    assert "It is 2." in replies(choice, "Right.")
    hint = choice.get_by_role("button", name="Hint 1")
    hint.press("Enter")
    assert "look" in replies(choice, "Hint 1")
    choice.get_by_role("button", name="Hint 2").press("Enter")
    assert "think" in replies(choice, "Hint 2")

    number = shown(page, 2)
    number.get_by_role("textbox").fill("4")
    number.get_by_role("textbox").press("Tab")
    page.keyboard.press("Enter")  # the focus is on the button now
    assert "4 MB is too large" in replies(number, "Not yet.")
    number.get_by_role("textbox").fill("3")
    number.get_by_role("textbox").press("Enter")
    assert "Three." in replies(number, "Right.")

    several = shown(page, 3)
    for box in several.get_by_role("checkbox").all():
        box.press("Space")
    several.get_by_role("button", name="Check").press("Enter")
    replies(several, "Right.")

    order = shown(page, 4)
    for letter in "yx":
        order.get_by_role("button", name=letter, exact=True).press("Enter")
    order.get_by_role("button", name="Check").press("Enter")
    replies(order, "Right.")

    place = shown(page, 5)
    place.get_by_role("button", name="Check").press("Enter")
    assert "Use both." in replies(place, "Not yet.")
    place.get_by_role("combobox").last.select_option("1")
    place.get_by_role("button", name="Check").press("Enter")
    assert "Both are." in replies(place, "Right.")

    assert not page_errors
    page.evaluate(SHUT_DOWN)


EXPLORERS = [
    "from d2lpart import explorers",
    "explorers.schedule_explorer(num_ranks=3, num_microbatches=4)",
    "explorers.partition_editor([4, 4, 1, 1, 1, 1], 2)",
]


def test_explorers_follow_the_keyboard(lab: Lab, page: Any) -> None:
    (lab.folder / "explorers.ipynb").write_text(notebook(EXPLORERS), "utf-8")
    page_errors = watch(page)
    open_and_run(page, lab, "explorers.ipynb")

    explorer = shown(page, 1)
    picture = explorer.locator('svg[role="img"]')
    assert "3 ranks, 4 micro-batches" in picture.get_attribute("aria-label")
    drawn, room = picture.bounding_box(), explorer.bounding_box()
    assert drawn["x"] + drawn["width"] <= room["x"] + room["width"] + 1  # none of it is cut off
    explorer.get_by_role("slider").first.press("ArrowRight")
    explorer.locator('svg[aria-label*="4 ranks, 4 micro-batches"]').wait_for()
    explorer.get_by_role("combobox").last.select_option(index=1)
    replies(explorer, "is idle from")

    editor = shown(page, 2)
    editor.get_by_text("3 + 3").wait_for()
    editor.get_by_role("slider").first.press("ArrowLeft")
    editor.get_by_text("2 + 4").first.wait_for()

    assert not page_errors
    page.evaluate(SHUT_DOWN)


BUILDER = [
    "from d2lpart.explorers import schedule_builder",
    "schedule_builder(2, 1)",
]


def test_a_schedule_is_built_without_a_mouse(lab: Lab, page: Any) -> None:
    (lab.folder / "builder.ipynb").write_text(notebook(BUILDER), "utf-8")
    page_errors = watch(page)
    open_and_run(page, lab, "builder.ipynb")

    builder = shown(page, 1)
    builder.get_by_text("0 of 4 placed; next: 0F0").wait_for()
    builder.get_by_role("button", name="0F0").press("Enter")
    builder.get_by_text("1 of 4 placed; next: 1F0").wait_for()
    builder.locator('svg[role="img"]').wait_for()
    builder.get_by_role("textbox").fill("0B0")
    builder.get_by_role("textbox").press("Enter")
    builder.get_by_text("0B0 cannot run yet: it needs 1B0 on rank 1").wait_for()
    builder.get_by_role("button", name="Take back").press("Enter")
    builder.get_by_text("0 of 4 placed; next: 0F0").wait_for()
    builder.get_by_role("button", name="0F0").focus()
    for placed in range(4):
        builder.get_by_text(f"{placed} of 4 placed").wait_for()
        page.keyboard.press("Enter")  # the focus stays where it is
    builder.get_by_text("You have made naive.").wait_for()
    assert not page_errors
    page.evaluate(SHUT_DOWN)
