import gc
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from ol_core.code_locations import GROUP, CodeLocation, DiscoveryError, installed, load

GOOD = """
import dagster as dg

@dg.asset
def one() -> None: ...

@dg.definitions
def defs() -> dg.Definitions:
    return dg.Definitions(assets=[one])

wrong_type = 5
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "location_good.py").write_text(GOOD)
    (tmp_path / "location_broken.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def location(name: str, entry: str, version: str = "0.1.0") -> CodeLocation:
    return CodeLocation(name=name, distribution=f"ol-{name}", version=version, entry=entry)


@pytest.mark.usefixtures("modules")
def test_listing_imports_no_location() -> None:
    point = EntryPoint(name="broken", value="location_broken:defs", group=GROUP)

    assert [one.name for one in installed(found=[point])] == ["broken"]
    assert "location_broken" not in sys.modules


def test_an_unknown_name_is_an_error_that_lists_the_installed_ones() -> None:
    points = [EntryPoint(name=name, value=f"{name}:defs", group=GROUP) for name in ("b", "a")]

    with pytest.raises(DiscoveryError, match="no code location is called x; installed are a, b"):
        installed(["x"], found=points)


def test_locations_can_be_restricted_by_name() -> None:
    points = [EntryPoint(name=name, value=f"{name}:defs", group=GROUP) for name in ("b", "a")]

    assert [one.name for one in installed(["b"], found=points)] == ["b"]


def test_a_name_taken_twice_is_an_error() -> None:
    points = [EntryPoint(name="a", value=f"{module}:defs", group=GROUP) for module in ("x", "y")]

    with pytest.raises(DiscoveryError, match=r"a \(unknown unknown, x:defs\): its name is taken twice"):
        installed(found=points)


@pytest.mark.usefixtures("modules")
def test_a_good_location_is_loaded() -> None:
    loaded = load([location("good", "location_good:defs")])

    assert len(loaded["good"].resolve_asset_graph().materializable_asset_keys) == 1


def test_garbage_is_collected_again_after_loading_also_where_it_failed(modules: Path) -> None:
    (modules / "location_busy.py").write_text("import gc\nassert not gc.isenabled()\nimport no_such_library\n")

    with pytest.raises(DiscoveryError, match="no_such_library"):
        load([location("busy", "location_busy:defs")])
    assert gc.isenabled()


@pytest.mark.usefixtures("modules")
def test_every_broken_location_is_named_at_once_and_none_is_loaded() -> None:
    with pytest.raises(DiscoveryError) as caught:
        load(
            [
                location("good", "location_good:defs"),
                location("broken", "location_broken:defs"),
                location("wrong", "location_good:wrong_type"),
                location("missing", "location_good:nothing"),
                location("skewed", "location_good:defs", version="9.1.0"),
            ]
        )

    message = str(caught.value)
    assert "good (ol-good" not in message
    assert "broken (ol-broken 0.1.0, location_broken:defs): cannot be loaded: ModuleNotFoundError" in message
    assert "wrong (ol-wrong 0.1.0, location_good:wrong_type): gives int, not dagster.Definitions" in message
    assert "missing (ol-missing 0.1.0, location_good:nothing): cannot be loaded: AttributeError" in message
    assert "skewed (ol-skewed 9.1.0, location_good:defs): made for another release" in message
    assert "install ol-skewed==0.1.*" in message
