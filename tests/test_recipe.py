"""The recipe: what is read is what was meant, and nothing else is accepted."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest

from exporter.config import (
    BuildConfig,
    CalibrationConfig,
    DataConfig,
    PruneConfig,
    TrainConfig,
    VerifyConfig,
)
from exporter.errors import ConfigError
from exporter.recipe import read_recipe, recipe_tables, recipe_text, with_changes

EVERYTHING_SET = BuildConfig(
    target="arm64-int8",
    out='a folder/with "quotes", \\ and 日本語 🙂',
    data=DataConfig(
        data="tab\there\nline\x7f\x01", download=True, size="32x48", resize="stretch",
        validation_share=1e-2,
    ),
    train=TrainConfig(
        model="resnet8", minutes=2.5, flip=False, seed=2**31 - 1, label_smoothing=0.0,
        model_arg=("depth=3", 'act="relu"'),
    ),
    prune=PruneConfig(prune=0.0, alpha=1e6, allocate="layer", unit="weights"),
    calibrate=CalibrationConfig(method="minmax"),
    verify=VerifyConfig(max_drop=-0.25, min_speedup=0.0),
)  # fmt: skip


def write(folder: Path, text: str) -> Path:
    path = folder / "build.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("config", [BuildConfig(), EVERYTHING_SET], ids=["defaults", "everything"])
def test_a_recipe_written_and_read_is_the_same_config(tmp_path: Path, config: BuildConfig) -> None:
    assert read_recipe(write(tmp_path, recipe_text(config))) == config


def test_the_text_names_every_option_that_is_set() -> None:
    tables = tomllib.loads(recipe_text(BuildConfig()))
    assert tables == recipe_tables(BuildConfig())
    expected = dataclasses.asdict(BuildConfig())
    assert expected["train"].pop("flip") is None
    assert expected["train"].pop("label_smoothing") is None
    assert expected["train"].pop("model_arg") == ()
    assert tables["train"].pop("model_arg") == []
    assert expected["intake"].pop("constant") == ()
    assert tables["intake"].pop("constant") == []
    assert expected["prune"].pop("prune") is None
    assert expected["verify"].pop("min_speedup") is None
    assert tables == expected


def test_an_unset_option_is_left_out_and_a_set_one_is_not() -> None:
    assert "flip" not in recipe_text(BuildConfig())
    assert "flip = true" in recipe_text(BuildConfig(train=TrainConfig(flip=True)))


def test_keys_left_out_have_their_defaults(tmp_path: Path) -> None:
    config = read_recipe(write(tmp_path, "[train]\nepochs = 3\n"))
    assert config == BuildConfig(train=TrainConfig(epochs=3))


def test_a_whole_number_will_do_for_a_fraction(tmp_path: Path) -> None:
    config = read_recipe(write(tmp_path, "[verify]\nmax_drop = 2\n"))
    assert type(config.verify.max_drop) is float
    assert config.verify.max_drop == 2.0


def test_changes_leave_the_rest_alone() -> None:
    changed = with_changes(EVERYTHING_SET, {"target": "cpu-int8", "train": {"epochs": 7}})
    assert changed.target == "cpu-int8"
    assert changed.train == dataclasses.replace(EVERYTHING_SET.train, epochs=7)
    assert changed.data == EVERYTHING_SET.data


BAD_RECIPES = [
    ("[train]\nepoch = 3", "Unknown key 'epoch' in [train]. Did you mean 'epochs'"),
    ("epochs = 3", "Did you mean 'epochs' in [train]"),
    ("[data]\nmax-drop = 1", "Unknown key 'max-drop' in [data]. Did you mean 'max_drop' in [ver"),
    ("[calibrate]\nzzz = 1", "Known: method, calibration_batch."),
    (
        "[zzz]\na = 1",
        "Known: target, out, data, train, prune, intake, calibrate, correct, quantize, verify.",
    ),
    ("[train]\nepochs = 2.5", "epochs in [train] is 2.5, but must be a whole number"),
    ("[train]\nepochs = true", "must be a whole number"),
    ("[train]\nminutes = 'two'", "minutes in [train] is 'two', but must be a number"),
    ("[train]\nflip = 1", "must be true or false"),
    ("[train]\nmodel = 8", "must be text in quotes"),
    ("[train]\nmodel = ['resnet8']", "must be text in quotes"),
    ("[train]\nmodel_arg = 'a=1'", "must be a list of texts in quotes"),
    ("[train]\nmodel_arg = [1]", "must be a list of texts in quotes"),
    ("[data]\nresize = 'squash'", "must be one of: stretch, crop"),
    ("[data]\nresize = ['crop']", "must be one of: stretch, crop"),
    ("data = 'digits'", "'data' is the table [data]"),
    ("[[train]]\nepochs = 3", "'train' is the table [train]"),
    ("[target]\na = 1", "target is {'a': 1}, but must be text"),
    ("[train]\nepochs = -1", "--epochs is -1, but must lie between 0 and 100000"),
    ("[verify]\nmax_drop = 100.5", "--max-drop is 100.5, but must lie between -100 and 100"),
    ("[verify]\nmax_drop = nan", "--max-drop is nan"),
    ("[verify]\nmin_speedup = inf", "--min-speedup is inf"),
    ("[verify]\nmin_speedup = 1" + 400 * "0", "must be a number"),
    ("[train\n", "is not a TOML file"),
    ("[train]\nepochs = 1\nepochs = 2", "is not a TOML file"),
]


@pytest.mark.parametrize(("text", "message"), BAD_RECIPES)
def test_a_bad_recipe_is_refused_in_one_line_that_names_file_and_key(
    tmp_path: Path, text: str, message: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_recipe(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_unreadable_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_recipe(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        read_recipe(tmp_path)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"out = '\xe9'")
    with pytest.raises(ConfigError, match="is not a TOML file"):
        read_recipe(latin)


def test_a_recipe_too_deep_to_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text(f"out = {'[' * 100_000}")
    with pytest.raises(ConfigError, match="is not a TOML file"):
        read_recipe(tmp_path / "deep.toml")
