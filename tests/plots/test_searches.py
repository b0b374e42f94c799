"""Draws, rewards and ranking: what is drawn, where, by which name."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation
from numpy.typing import NDArray

from nas_ext import plots
from nas_ext.architecture import SearchSpace
from nas_ext.benchmarks import pooling_table
from nas_ext.results import SearchResult
from nas_ext.search import Draw

TABLE = pooling_table()


def names(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def bold(axes: Axes) -> list[str]:
    return [t.get_text() for t in axes.get_yticklabels() if t.get_fontweight() == "bold"]


def title(figure: Figure) -> str:
    return figure.get_suptitle().replace("\n", " ")


def colours(axes: Axes) -> NDArray[np.float64]:
    """Return the numbers that colour the dots or cells of the axes."""
    (found,) = [values for c in axes.collections if (values := c.get_array()) is not None]
    return np.ma.filled(np.ma.masked_invalid(found), np.nan).astype(np.float64)


def dots(axes: Axes) -> list[tuple[float, float]]:
    """Return the places of the scattered dots."""
    clouds = [c for c in axes.collections if isinstance(c, PathCollection)]
    return [(float(x), float(y)) for c in clouds for x, y in np.asarray(c.get_offsets())]


def dashed(axes: Axes) -> list[float]:
    return [float(np.asarray(line.get_xdata())[0]) for line in axes.lines if line.is_dashed()]


def remarks(axes: Axes) -> list[Annotation]:
    return [text for text in axes.texts if isinstance(text, Annotation)]


def bars(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def test_the_heat_map_has_the_share_of_every_architecture_in_every_window(
    pooling: SearchResult,
) -> None:
    figure = plots.sampling_shares(pooling, space=TABLE.space)
    axes = figure.axes[0]
    shares = colours(axes)
    assert shares.shape == (36, 40)
    np.testing.assert_allclose(shares.sum(axis=0), 1.0)
    for row, window in ((0, 0), (17, 20), (35, 39)):  # 400 steps, so 10 a window
        inside = [d for d in pooling.draws if d.step // 10 == window]
        drawn = [d for d in inside if TABLE.space.index(d.architecture) == row]
        assert shares[row, window] == pytest.approx(len(drawn) / len(inside))
    assert names(axes) == [TABLE.space.describe(a) for a in TABLE.space]
    assert axes.get_ylim() == (36, 0)  # the first architecture on top
    assert bold(axes) == [pooling.best.name]
    assert axes.get_xlabel() == "step"
    assert axes.get_ylabel() == "architecture"


def test_the_heat_map_marks_and_names_the_phases(pooling: SearchResult) -> None:
    axes = plots.sampling_shares(pooling).axes[0]
    assert dashed(axes) == [200, 320]
    top = axes.child_axes[0]
    assert [t.get_text() for t in top.get_xticklabels()] == ["uniform", "tree warm-up", "search"]
    assert top.get_xticks().tolist() == [100, 260, 360]


def test_many_short_phases_have_upright_names_that_do_not_cover_each_other(
    one: SearchResult,
) -> None:
    draws = tuple(Draw(min(step // 4, 99), step, (0,)) for step in range(400))
    result = replace(one, phases=tuple((f"round {i}", 4) for i in range(100)), draws=draws)
    top = plots.sampling_shares(result).axes[0].child_axes[0]
    places = top.get_xticks()
    assert min(np.diff(places)) >= 0.033 * 400
    assert {t.get_rotation() for t in top.get_xticklabels()} == {90}


def test_the_heat_map_shows_the_forty_drawn_most_in_the_spaces_order(
    big: SearchResult, big_space: SearchSpace
) -> None:
    figure = plots.sampling_shares(big, space=big_space)
    counts = Counter(d.architecture for d in big.draws)
    by_name = {big_space.describe(a): a for a in big_space}
    shown = [by_name[name] for name in names(figure.axes[0])]
    assert len(shown) == 40
    assert shown == sorted(shown)
    left_out = [counts[a] for a in counts if a not in shown]
    assert min(counts[a] for a in shown) >= max(left_out)
    assert f"the 40 most drawn of {len(counts)} architectures" in title(figure)


def test_architectures_without_a_name_go_by_their_option_indices(big: SearchResult) -> None:
    ranked = {line.name for line in big.ranking}
    found = set(names(plots.sampling_shares(big).axes[0]))
    assert found - ranked
    assert all(set(name) <= set("012-") for name in found - ranked)


def test_windows_that_nothing_was_drawn_in_stay_empty(pooling: SearchResult) -> None:
    interrupted = replace(pooling, draws=pooling.draws[:100])
    shares = colours(plots.sampling_shares(interrupted, windows=4).axes[0])
    assert np.isnan(shares).all(axis=0).tolist() == [False, True, True, True]


def test_steps_that_train_several_architectures_share_their_window(one: SearchResult) -> None:
    draws = tuple(Draw(0, step, (option,)) for step in range(4) for option in (0, 1))
    shares = colours(plots.sampling_shares(replace(one, draws=draws)).axes[0])
    assert (shares == 0.5).all()


def test_the_reward_curve_with_a_window_of_one_is_the_rewards(pooling: SearchResult) -> None:
    axes = plots.reward_curve(pooling, window=1).axes[0]
    curves = [line for line in axes.lines if not line.is_dashed()]
    assert len(curves) == 2  # one for each phase with rewards
    for curve, phase in zip(curves, (1, 2), strict=True):
        told = [(d.step, d.reward) for d in pooling.draws if d.phase == phase]
        assert list(zip(*np.asarray(curve.get_data()).tolist(), strict=True)) == told
    assert sorted(dots(axes)) == sorted((d.step, d.reward) for d in pooling.draws if d.reward)
    assert dashed(axes) == [200, 320]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "reward: one validation batch (%)")


def test_the_moving_average_is_centred_and_shorter_at_the_ends_of_a_phase(
    one: SearchResult,
) -> None:
    # By hand, windows of 3: (0 + .3) / 2, (0 + .3 + .6) / 3, (.3 + .6 + .9) / 3, (.6 + .9) / 2.
    rewards = (0.0, 0.3, 0.6, 0.9)
    draws = tuple(Draw(0, step, (0,), reward) for step, reward in enumerate(rewards))
    (curve,) = plots.reward_curve(replace(one, draws=draws), window=3).axes[0].lines
    np.testing.assert_allclose(np.asarray(curve.get_ydata()), [0.15, 0.3, 0.6, 0.75])


def test_the_moving_average_does_not_cross_from_phase_to_phase(one: SearchResult) -> None:
    draws = tuple(Draw(step // 2, step, (0,), float(step // 2)) for step in range(4))
    result = replace(one, phases=(("low", 2), ("high", 2)), draws=draws)
    curves = [
        line for line in plots.reward_curve(result, window=4).axes[0].lines if not line.is_dashed()
    ]
    assert [np.asarray(c.get_ydata()).tolist() for c in curves] == [[0, 0], [1, 1]]


def test_phases_without_rewards_are_shaded_and_say_so(pooling: SearchResult) -> None:
    axes = plots.reward_curve(pooling).axes[0]
    (shade,) = [p for p in axes.patches if isinstance(p, Rectangle)]
    assert (shade.get_x(), shade.get_width()) == (0, 200)
    assert [t.get_text() for t in axes.texts] == ["no rewards asked"]


def test_no_reward_at_all_is_refused(one: SearchResult) -> None:
    with pytest.raises(ValueError, match="draws of the result must have a reward to show"):
        plots.reward_curve(one)


def test_the_ranking_has_a_bar_to_each_accuracy_with_its_macs(whole: SearchResult) -> None:
    figure = plots.ranking(whole)
    axes = figure.axes[0]
    assert len(bars(axes)) == 20
    ends = [bar.get_x() + bar.get_width() for bar in bars(axes)]
    np.testing.assert_allclose(ends, [line.accuracy for line in whole.ranking[:20]])
    assert names(axes) == [line.name for line in whole.ranking[:20]]
    # Table 2.1: number 34, [7,1,2], has 92.01 %.
    assert axes.texts[0].get_text().startswith("92.0 %  (")
    assert axes.texts[0].get_text().endswith("M macs)")
    start = bars(axes)[0].get_x()
    assert axes.get_xlabel() == f"validation accuracy (%); axis from {100 * start:.1f}"
    assert title(figure).endswith("best 20 of 36")


def test_the_ranking_shows_no_more_than_asked_and_no_macs_where_unknown(one: SearchResult) -> None:
    axes = plots.ranking(one, top=3).axes[0]
    assert len(bars(axes)) == 1
    assert axes.texts[0].get_text() == "75.0 %"


def test_accuracies_of_zero_can_be_ranked(one: SearchResult) -> None:
    line = replace(one.ranking[0], accuracy=0.0)
    axes = plots.ranking(replace(one, ranking=(line,))).axes[0]
    assert axes.texts[0].get_text() == "0.0 %"
    assert axes.get_xlabel() == "validation accuracy (%)"
    assert axes.get_xlim()[0] == 0.0 < axes.get_xlim()[1]


def test_the_front_has_a_dot_for_each_architecture_and_stairs_through_what_none_beats(
    whole: SearchResult,
) -> None:
    axes = plots.pareto_front(whole).axes[0]
    places = sorted((line.macs, line.accuracy) for line in whole.ranking if line.macs is not None)
    shown = np.array(sorted(dots(axes)))
    assert len(shown) == 36
    np.testing.assert_allclose(shown, np.array(places) / [1e6, 1])
    # The definition, over all pairs: nobody is as accurate for less, or more so for as much.
    kept = {
        (cost, accuracy)
        for cost, accuracy in places
        if not any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in places)
    }
    named = [t.get_text() for t in remarks(axes)]
    assert {(round(t.xy[0] * 1e6), t.xy[1]) for t in remarks(axes)} < kept
    cheapest = min((line.macs or 0, -line.accuracy, line.name) for line in whole.ranking)[2]
    assert named[:2] == [whole.best.name, cheapest]
    (stairs,) = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    np.testing.assert_allclose(np.asarray(stairs.get_ydata()), sorted(a for _, a in kept))
    assert axes.get_xlabel() == "macs of one image (M)"
    assert axes.get_ylabel().startswith("validation accuracy (%); axis from ")


def test_the_front_of_one_architecture_is_itself(one: SearchResult) -> None:
    line = replace(one.ranking[0], macs=12_300_000)
    axes = plots.pareto_front(replace(one, ranking=(line,))).axes[0]
    assert dots(axes) == [(12.3, 0.75)]
    assert [t.get_text() for t in remarks(axes)] == [line.name]


def test_a_front_without_macs_is_refused(one: SearchResult) -> None:
    with pytest.raises(ValueError, match="ranking must know the macs of every architecture"):
        plots.pareto_front(one)


def test_names_on_the_front_do_not_cover_each_other(whole: SearchResult) -> None:
    figure = plots.pareto_front(whole)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [t.get_window_extent(canvas.get_renderer()) for t in remarks(figure.axes[0])]
    assert len(boxes) > 4
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
