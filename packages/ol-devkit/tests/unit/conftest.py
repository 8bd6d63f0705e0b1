import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from ol_devkit.campus import Behaviour, Campus, CampusContent, serve

CONTENT = CampusContent.generated(seed=7, openedx_courses=5, canvas_courses=6, deployments=("north", "south"))


class ManualClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def campus() -> Iterator[Campus]:
    """A campus for tests that change nothing on it, or nothing that another test looks at."""
    with serve(CONTENT) as running:
        yield running


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock to move by hand."""
    return ManualClock()


@pytest.fixture
def open_campus() -> Iterator[Callable[..., Campus]]:
    """A campus of the test's own, with content and switches of its choice."""
    with ExitStack() as stack:

        def start(
            content: CampusContent = CONTENT,
            behaviour: Behaviour | None = None,
            clock: Callable[[], float] | None = None,
        ) -> Campus:
            return stack.enter_context(serve(content, behaviour=behaviour, clock=clock or ManualClock()))

        yield start


@pytest.fixture(scope="session")
def web() -> Iterator[httpx.Client]:
    """A client without credentials; one for all, since making a TLS context takes longer than most tests."""
    with httpx.Client(verify=False) as client:
        yield client


@pytest.fixture(scope="session")
def canvas_client() -> Callable[..., httpx.Client]:
    """Makes a client of a campus's Canvas API that carries the right token."""

    def make(campus: Campus, **headers: str) -> httpx.Client:
        bearer = {"Authorization": f"Bearer {campus.secrets['canvas']['access_token']}"}
        return httpx.Client(base_url=f"{campus.url}/canvas/api/v1/", headers={**bearer, **headers}, verify=False)

    return make


@pytest.fixture(scope="session")
def canvas(campus: Campus, canvas_client: Callable[..., httpx.Client]) -> Iterator[httpx.Client]:
    """The Canvas API of the shared campus."""
    with canvas_client(campus) as client:
        yield client


@pytest.fixture(scope="session")
def ask_token(web: httpx.Client) -> Callable[..., httpx.Response]:
    """Asks a deployment's LMS for a token; keywords replace fields of the form."""

    def ask(campus: Campus, deployment: str = "north", **form: str) -> httpx.Response:
        fields = {"grant_type": "client_credentials", "token_type": "jwt", **campus.secrets[f"openedx/{deployment}"]}
        return web.post(f"{campus.url}/{deployment}/lms/oauth2/access_token", data={**fields, **form})

    return ask


@pytest.fixture(scope="session")
def openedx_client(ask_token: Callable[..., httpx.Response]) -> Callable[..., httpx.Client]:
    """Makes a client of a deployment that carries a token; below it are `lms/` and `studio/`."""

    def make(campus: Campus, deployment: str = "north") -> httpx.Client:
        token = ask_token(campus, deployment).json()["access_token"]
        return httpx.Client(
            base_url=f"{campus.url}/{deployment}/", headers={"Authorization": f"JWT {token}"}, verify=False
        )

    return make


@pytest.fixture(scope="session")
def openedx(campus: Campus, openedx_client: Callable[..., httpx.Client]) -> Iterator[httpx.Client]:
    """The first deployment of the shared campus."""
    with openedx_client(campus) as client:
        yield client


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of sample archives; the test is skipped where it is missing."""
    named = os.environ.get("OL_SAMPLES_DIR")
    root = next(parent for parent in Path(__file__).parents if (parent / "uv.lock").exists())
    folder = Path(named) if named else root.parent / "shared" / "samples"
    if not folder.is_dir():
        pytest.skip("no folder of samples; name it in OL_SAMPLES_DIR")
    return folder
