from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.quantization.corrections.pairs import Pixels, layer_pairs
from exporter.quantization.corrections.rounding import (
    Moments,
    Schedule,
    choose_roundings,
    measure_moments,
    round_adaptively,
)
from exporter.quantization.probe import open_probe
from exporter.quantization.quantize import QuantizedCore
from exporter.quantization.saturation import can_saturate

QUICK = Schedule(steps=120, rate=0.05)


def problem(seed: int, outputs: int, width: int) -> tuple[NDArray[np.float32], Moments]:
    """Weights between -6 and 6, and inputs that hang together, as neighbouring pixels do."""
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(200, width)) + 2 * generator.normal(size=(200, 1)) + 1
    exact = generator.uniform(-6, 6, (1, outputs, width)).astype(np.float32)
    wanted = mixed @ exact[0].T
    return exact, Moments(
        inputs=(mixed.T @ mixed / 200)[None],
        cross=(wanted.T @ mixed / 200)[None],
        power=np.square(wanted).mean(axis=0)[None],
    )


def test_the_error_of_a_row_is_its_mean_square() -> None:
    generator = np.random.default_rng(5)
    x, y = generator.normal(size=(50, 3)), generator.normal(size=(50, 2))
    moments = Moments(
        inputs=(x.T @ x / 50)[None],
        cross=(y.T @ x / 50)[None],
        power=np.square(y).mean(axis=0)[None],
    )
    rows = np.array([[[1, -2, 3], [0, 4, -1]]])

    expected = np.square(y - x @ rows[0].T).mean(axis=0)

    np.testing.assert_allclose(moments.errors(rows)[0], expected)


def test_roundings_come_close_to_the_best_of_all_combinations() -> None:
    exact, moments = problem(0, outputs=12, width=8)
    nearest = np.rint(exact).astype(np.int8)

    found = choose_roundings(exact, nearest, 127, moments, Schedule())

    down = np.floor(exact)
    best = np.min(
        [moments.errors(down + np.array(ups)) for ups in itertools.product((0, 1), repeat=8)],
        axis=0,
    )
    reached, before = moments.errors(found), moments.errors(nearest)
    assert np.isin(found - down, (0, 1)).all()
    assert (reached <= before).all()
    assert reached.sum() < 0.35 * before.sum()
    assert np.median(reached / best) < 1.5


def test_weights_stay_within_the_limit() -> None:
    exact = np.full((1, 2, 4), 63.6, np.float32)
    exact[0, 1] = -63.6
    wanted = np.array([[260.0], [-260.0]])  # four times 65: more than the limit gives
    moments = Moments(
        inputs=np.ones((1, 4, 4)),
        cross=np.broadcast_to(wanted, (1, 2, 4)).copy(),
        power=np.full((1, 2), 260.0**2),
    )
    nearest = np.sign(exact).astype(np.int8) * np.int8(63)

    found = choose_roundings(exact, nearest, 64, moments, QUICK)

    assert found.tolist() == [[[64] * 4, [-64] * 4]]


def test_a_row_that_could_not_saturate_still_cannot() -> None:
    moments = Moments(
        inputs=np.ones((1, 2, 2)),
        cross=np.array([[[128.8, 128.8], [126.8, 126.8]]]),
        power=np.array([[128.8**2, 126.8**2]]),
    )
    exact = np.array([[[64.3, 64.45], [63.3, 63.45]]], np.float32)
    nearest = np.rint(exact).astype(np.int8)

    found = choose_roundings(exact, nearest, 127, moments, QUICK)

    assert found[0, 0].tolist() == [64, 64]  # 129 would suit best, but 255 * 129 > 32767
    assert found[0, 1].tolist() == [63, 64]
    assert not can_saturate(found[0])


def test_moments_are_those_of_the_layers_own_inputs_and_outputs(
    core: QuantizedCore, pixels: Pixels
) -> None:
    for pair in layer_pairs(core):
        layer = pair.quantized
        moments = measure_moments(core.floating, core.quantized, pair, pixels)

        batch = np.concatenate(list(pixels))
        wanted = open_probe(core.floating, [pair.output]).run(None, {"normalized": batch})[0]
        (got,) = open_probe(core.quantized, [pair.quantized_output]).run(
            None, {"normalized": batch}
        )
        difference = np.moveaxis(got - wanted, 1, 0).reshape(len(layer.rows), -1)
        expected = np.square(difference / pair.steps[:, None], dtype=np.float64).mean(axis=1)
        found = moments.errors(layer.rows[None])[0]
        # The graph's own error has that of the rounded bias in it, half a step at most.
        np.testing.assert_allclose(np.sqrt(found), np.sqrt(expected), atol=0.75, rtol=1e-3)
        assert np.sqrt(expected).min() > 2


def test_a_network_gets_other_weights_next_to_its_own(core: QuantizedCore, pixels: Pixels) -> None:
    rounded = round_adaptively(core, pixels, QUICK)

    before, after = layer_pairs(core), layer_pairs(rounded)
    # The inputs of the second layer hang together; the first one's are noise.
    moments = measure_moments(core.floating, rounded.quantized, after[1], pixels)
    errors = [moments.errors(pair.quantized.rows[None]) for pair in (before[1], after[1])]
    assert (errors[1] <= errors[0]).all()
    assert errors[1].sum() < 0.9 * errors[0].sum()
    for old, new in zip(before, after, strict=True):
        steps = new.rows / new.quantized.row_scales[:, None]
        assert np.abs(steps - new.quantized.rows).max() < 1.001
        assert (old.quantized.rows != new.quantized.rows).any()
        assert not can_saturate(new.quantized.rows) or can_saturate(old.quantized.rows)
        limit = 64 if new.quantized.name in core.seven_bit_layers else 127
        assert np.abs(new.quantized.rows.astype(int)).max() <= limit


@pytest.mark.parametrize("groups", [1, 3])
def test_the_same_problem_gives_the_same_answer_in_any_grouping(groups: int) -> None:
    parts = [problem(seed, outputs=2, width=6) for seed in range(groups)]
    exact = np.concatenate([part[0] for part in parts])
    moments = Moments(
        inputs=np.concatenate([part[1].inputs for part in parts]),
        cross=np.concatenate([part[1].cross for part in parts]),
        power=np.concatenate([part[1].power for part in parts]),
    )
    nearest = np.rint(exact).astype(np.int8)

    together = choose_roundings(exact, nearest, 127, moments, QUICK)

    for index, (alone, own) in enumerate(parts):
        single = choose_roundings(alone, nearest[index : index + 1], 127, own, QUICK)
        assert together[index].tolist() == single[0].tolist()
