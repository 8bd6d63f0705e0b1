"""`ol dev` as a person meets it: the terminal, the data that Dagster's server gives, and what Chromium shows."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MART = "mart/marts__course_catalog"
ENVIRONMENT_OF_CI = Path(__file__).parents[2] / "deployments" / "ci" / "environment.toml"


@dataclass(frozen=True)
class Dev:
    """A running `ol dev`; it stands in a session of its own, on a bare environment."""

    process: "subprocess.Popen[str]"
    data_dir: Path
    port: int
    terminal: Path

    @classmethod
    def start(cls, folder: Path, **environment: str) -> "Dev":
        port = free_port()
        command = [str(Path(sys.executable).parent / "ol"), "dev", "--port", str(port), "--data-dir", str(folder / "d")]
        folder.mkdir(exist_ok=True)
        with (folder / "terminal.txt").open("w") as terminal:
            process = subprocess.Popen(
                [*command, "--courses", "3"],
                env={"PATH": os.defpath, "HOME": str(folder / "home"), **environment},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=terminal,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        return cls(process, folder / "d", port, folder / "terminal.txt")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def said(self) -> str:
        return self.terminal.read_text()

    def ask(self, query: str) -> dict[str, Any]:
        body = json.dumps({"query": query}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as response:
            answer: dict[str, Any] = json.load(response)
        assert "errors" not in answer
        data: dict[str, Any] = answer["data"]
        return data

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def processes(self) -> dict[int, str]:
        """Every process that names the data folder in its arguments, as all of Dagster's do, and no other."""
        table = subprocess.run(["ps", "-ww", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
        rows = (line.strip().partition(" ") for line in table.splitlines())
        return {int(pid): args for pid, _, args in rows if str(self.data_dir) in args}

    def clean_up(self) -> None:
        if self.process.poll() is None:
            try:
                self.stop(signal.SIGTERM)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(condition: Callable[[], bool], dev: Dev, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert dev.process.poll() is None, dev.said()
        assert time.monotonic() < deadline, dev.said()
        time.sleep(0.3)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    started = Dev.start(tmp_path_factory.mktemp("dev"))
    try:
        wait_for(lambda: f"ready at {started.url}" in started.said(), started)
        yield started
    finally:
        started.clean_up()


@pytest.fixture(scope="module")
def assets(dev: Dev) -> dict[str, dict[str, Any]]:
    fields = "assetKey { path } groupName kinds description isMaterializable dependencyKeys { path }"
    owners = "owners { ... on TeamAssetOwner { team } ... on UserAssetOwner { email } }"
    nodes = dev.ask(f"{{ assetNodes {{ {fields} {owners} repository {{ location {{ name }} }} }} }}")["assetNodes"]
    return {"/".join(node["assetKey"]["path"]): node for node in nodes}


@pytest.fixture
def page() -> Iterator[Page]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is missing; on Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        try:
            yield browser.new_page(viewport={"width": 1500, "height": 950})
        finally:
            browser.close()


def test_every_code_location_loads(dev: Dev) -> None:
    fields = "name loadStatus locationOrLoadError { __typename }"
    entries = dev.ask(f"{{ workspaceOrError {{ ... on Workspace {{ locationEntries {{ {fields} }} }} }} }}")

    loaded = {
        entry["name"]: (entry["loadStatus"], entry["locationOrLoadError"]["__typename"])
        for entry in entries["workspaceOrError"]["locationEntries"]
    }
    assert loaded == dict.fromkeys(("canvas", "lakehouse", "openedx"), ("LOADED", "RepositoryLocation"))


def test_every_asset_says_what_it_is(assets: dict[str, dict[str, Any]]) -> None:
    wanted = ("groupName", "kinds", "owners", "description")
    lacking = [(key, field) for key, node in assets.items() for field in wanted if not node[field]]

    assert len(assets) > 70
    assert lacking == []
    assert {node["groupName"] for node in assets.values()} == {
        "alerts", "canvas", "openedx", "lakehouse", "staging", "dimensional", "mart",
    }  # fmt: skip


def test_the_lineage_is_one_graph_from_the_exports_to_the_mart(assets: dict[str, dict[str, Any]]) -> None:
    upstream = {key: {"/".join(one["path"]) for one in node["dependencyKeys"]} for key, node in assets.items()}
    reached, todo = {MART}, [MART]
    while todo:
        found = upstream[todo.pop()] - reached
        reached |= found
        todo += found

    stated = {key for key, node in assets.items() if not node["isMaterializable"]}
    assert stated == {"alerts/canvas", "alerts/lakehouse", "alerts/openedx", "lakehouse/dbt_build"}  # by sensors alone
    exports = {key for key in assets if key.endswith(("/raw_data/course_xml", "canvas/course_content"))}
    assert len(exports) == 4
    assert exports <= reached
    openedx = {key for key, node in assets.items() if node["repository"]["location"]["name"] == "openedx"}
    assert {key.rpartition("__")[2].rpartition("/")[2] for key in openedx - reached - stated} == {
        "course_policy",  # the catalog has no column of it
        "course_content_webhook",  # leaves the platform
    }


def test_every_sensor_is_on_and_ticks_without_an_error(dev: Dev) -> None:
    fields = "name sensorState { status ticks { status error { message } } }"
    query = f"{{ sensorsOrError(repositorySelector: SELECTOR) {{ ... on Sensors {{ results {{ {fields} }} }} }} }}"

    def sensors() -> list[dict[str, Any]]:
        selectors = (
            f'{{repositoryName: "__repository__", repositoryLocationName: "{location}"}}'
            for location in ("canvas", "lakehouse", "openedx")
        )
        answers = (dev.ask(query.replace("SELECTOR", selector))["sensorsOrError"] for selector in selectors)
        return [sensor for answer in answers for sensor in answer["results"]]

    def ended(sensor: dict[str, Any]) -> bool:
        return any(tick["status"] != "STARTED" for tick in sensor["sensorState"]["ticks"])

    wait_for(lambda: all(ended(sensor) for sensor in sensors()), dev)
    found = sensors()
    assert len(found) == 12
    assert {sensor["sensorState"]["status"] for sensor in found} == {"RUNNING"}
    assert [tick for sensor in found for tick in sensor["sensorState"]["ticks"] if tick["error"]] == []


def test_a_person_sees_the_assets_and_no_error(dev: Dev, page: Page, tmp_path: Path) -> None:
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("response", lambda response: problems.append(response.url) if response.status >= 400 else None)

    page.goto(f"{dev.url}/asset-groups")
    for group in ("canvas", "openedx", "staging", "dimensional", "mart"):
        page.get_by_text(group, exact=True).first.wait_for()
    page.screenshot(path=tmp_path / "lineage.png")
    assert page.get_by_role("dialog").count() == 0  # such as the form for an e-mail address
    page.goto(f"{dev.url}/locations/__repository__@canvas/asset-groups/canvas/list")
    page.get_by_text("course_content_webhook").first.wait_for()
    page.goto(f"{dev.url}/assets/{MART}")
    page.get_by_text("Every course of Open edX and of Canvas").first.wait_for()
    page.get_by_text("lakehouse_dbt_build").first.wait_for()
    page.screenshot(path=tmp_path / "mart.png")
    page.goto(f"{dev.url}/deployment/locations")
    page.get_by_text("3 code locations").wait_for()
    page.get_by_text("Loaded", exact=True).nth(2).wait_for()
    page.screenshot(path=tmp_path / "locations.png")

    assert page.locator("[data-sonner-toast]").count() == 0
    assert problems == []


def test_the_terminal_tells_of_runs_and_warns_of_nothing(dev: Dev) -> None:
    wait_for(lambda: ": success" in dev.said(), dev)

    first = "canvas, lakehouse, openedx on a simulated campus at http://127.0.0.1:"
    assert dev.said().startswith(first)
    assert not any(word in dev.said() for word in ("WARNING", "Warning", "ERROR", "Error", "Traceback"))


def test_a_data_folder_has_one_user(dev: Dev) -> None:
    command = [str(Path(sys.executable).parent / "ol"), "dev", "--port", str(free_port())]
    second = subprocess.run([*command, "--data-dir", str(dev.data_dir)], capture_output=True, text=True, check=False)

    assert second.returncode == 1
    assert "another --data-dir" in second.stderr


def test_a_port_has_one_user(dev: Dev, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "ol"), "dev", "--port", str(dev.port)]
    second = subprocess.run([*command, "--data-dir", str(tmp_path)], capture_output=True, text=True, check=False)

    assert second.returncode == 1
    assert f"cannot serve port {dev.port}" in second.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_stops_all_of_it(dev: Dev) -> None:
    assert len(dev.processes()) > 8

    assert dev.stop(signal.SIGINT) == 0

    assert dev.processes() == {}
    with pytest.raises(OSError, match="refused"):
        dev.ask("{ version }")


def test_configured_sources_need_no_campus_and_sigterm_stops_all_of_it(tmp_path: Path) -> None:
    real = Dev.start(tmp_path, DAGSTER_ENV="ci", OL_ENVIRONMENT_FILE=str(ENVIRONMENT_OF_CI))
    try:
        wait_for(lambda: "starting" in real.said(), real)
        assert f"on the sources of {ENVIRONMENT_OF_CI} (ci)" in real.said()
        assert real.stop(signal.SIGTERM) == 0
        assert real.processes() == {}
    finally:
        real.clean_up()

    assert "campus" not in real.said()
    assert not (real.data_dir / "secrets.toml").exists()
