"""What others may have written, made up by Hypothesis: taken as it is, or refused in one line."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy import run
from exporter.config import BuildConfig
from exporter.device.answer import device_report, parse_answer
from exporter.errors import BundleError, ConfigError, DeviceError, ExporterError
from exporter.packing.archive import read_zip
from exporter.packing.contents import MANIFEST, check_contents
from exporter.recipe import read_recipe, recipe_tables, recipe_text, with_changes

T = TypeVar("T")

# The same cases every time, and none kept on disk.
steady = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


def places(document: Any, trail: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every value inside a JSON document."""
    inner = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    return [trail, *(place for key, item in inner for place in places(item, (*trail, key)))]


def replaced(document: Any, place: tuple[Any, ...], value: object) -> Any:
    """Return a copy of the document with another value at a place."""
    if not place:
        return value
    copy = document.copy()
    copy[place[0]] = replaced(document[place[0]], place[1:], value)
    return copy


def taken(read: Callable[[], T], refusal: type[ExporterError]) -> T | None:
    """Return what is read, or None where it was refused in one line."""
    try:
        return read()
    except refusal as error:
        told = str(error)
    assert len(told.splitlines()) == 1, told
    return None


@pytest.fixture(scope="module")
def answer(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("answer") / "device.json"
    assert run.main(["--bundle", str(shipped), "--no-latency", "--out", str(out)]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@steady
@given(data=st.data())
def test_an_answer_with_any_value_at_any_place(answer: dict[str, Any], data: st.DataObject) -> None:
    changed = replaced(answer, data.draw(st.sampled_from(places(answer))), data.draw(values))
    text = json.dumps(changed).encode()
    found = taken(lambda: device_report(parse_answer(text, "it"), "it"), DeviceError)
    assert found is None or found.passed is changed["passed"]


@steady
@given(data=st.data())
def test_a_manifest_with_any_value_at_any_place(shipped: Path, data: st.DataObject) -> None:
    files = {entry.name: entry.read_bytes() for entry in shipped.iterdir()}
    manifest = json.loads(files[MANIFEST])
    changed = replaced(manifest, data.draw(st.sampled_from(places(manifest))), data.draw(values))
    files[MANIFEST] = json.dumps(changed).encode()
    found = taken(lambda: check_contents(shipped, files), BundleError)
    assert found is None or found.files.keys() == files.keys() - {MANIFEST}


TABLES = recipe_tables(BuildConfig())
PLACES = [place for place in places(TABLES) if place and not isinstance(place[-1], int)]


@steady
@given(place=st.sampled_from(PLACES), value=values)
def test_a_recipe_that_is_taken_makes_itself_again(
    tmp_path: Path, place: tuple[str, ...], value: Any
) -> None:
    asked = value
    for key in reversed(place):
        asked = {key: asked}
    config = taken(lambda: with_changes(BuildConfig(), asked), ConfigError)
    if config is not None:
        file = tmp_path / "build.toml"
        file.write_text(recipe_text(config), encoding="utf-8")
        again = taken(lambda: read_recipe(file), ConfigError)  # it checks limits as well
        assert again is None or again == config


@steady
@given(names=st.lists(st.text(max_size=12), min_size=1, max_size=4, unique=True))
def test_an_archive_with_any_names_gives_plain_ones(tmp_path: Path, names: list[str]) -> None:
    file = tmp_path / "any.zip"
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two names may be one up to a null byte
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), b"x")
    for name in taken(lambda: read_zip(file), BundleError) or {}:
        assert (tmp_path / name).resolve().parent == tmp_path.resolve()
