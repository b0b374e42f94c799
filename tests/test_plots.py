"""Figures of real searches against the pooling table: what is drawn, where, by which name."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.typing import NDArray

from nas_ext import plots
from nas_ext.architecture import Choice, SearchSpace
from nas_ext.benchmarks import TabularEstimator, pooling_table
from nas_ext.compare import mean_interval
from nas_ext.estimation import PerformanceEstimator
from nas_ext.results import Budget, RankedArchitecture, SearchResult
from nas_ext.samplers import TreeSampler, UniformSampler
from nas_ext.schedule import linear
from nas_ext.search import Draw, Phase, Search, Setting
from nas_ext.similarity import encoding
from nas_ext.testing import FakeSupernet
from nas_ext.tree import Tree, cluster_tree, layer_tree, rank_tree

TABLE = pooling_table()
PHASES = (("uniform", 200), ("tree warm-up", 120), ("search", 80))


def learned(setting: Setting) -> Tree:
    architectures = setting.space.enumerate()
    return cluster_tree(
        architectures, encoding(np.stack([setting.space.encoding(a) for a in architectures]))
    )


def phases(grow: Callable[[Setting], Tree]) -> tuple[Phase, ...]:
    """Return the three phases of a learned tree, 400 steps."""

    def sampler(setting: Setting, walking: bool) -> TreeSampler:
        before = setting.previous
        tree = before.tree if isinstance(before, TreeSampler) else grow(setting)
        return TreeSampler(
            setting.space,
            setting.rng,
            tree=tree,
            temperature=linear(0.02, 0.0025, 80) if walking else None,
            final_temperature=0.0025,
            exploration=0.5,
            decay=0.95,
        )

    return (
        Phase("uniform", 200, lambda s: UniformSampler(s.space, s.rng)),
        Phase("tree warm-up", 120, lambda s: sampler(s, False)),
        Phase("search", 80, lambda s: sampler(s, True)),
    )


def searched(
    space: SearchSpace,
    estimator: PerformanceEstimator,
    grow: Callable[[Setting], Tree] = learned,
    *,
    candidates: int | None = 10,
) -> SearchResult:
    """Run a search as a supernet does: rewards where the sampler needs them."""
    search = Search(phases(grow), Setting(space, estimator, np.random.default_rng(0)))
    for _ in range(search.steps):
        for architecture in search.ask():
            if search.sampler.needs_reward:
                search.tell(architecture, estimator.reward(architecture))
    assert isinstance(search.sampler, TreeSampler)
    return SearchResult(
        strategy="LearnedTree",
        settings={"distance": "kl", "linkage": "average"},
        seed=0,
        space={"name": space.name, "size": space.size, "arguments": None},
        phases=tuple((phase.name, phase.steps) for phase in search.phases),
        draws=tuple(search.draws),
        ranking=tuple(
            RankedArchitecture(
                architecture=r.architecture,
                name=space.describe(r.architecture),
                sample=space.decode(r.architecture),
                accuracy=r.accuracy,
                macs=TABLE.macs.get(r.architecture),
            )
            for r in search.rank(candidates)
        ),
        budget=Budget(400, 400, 200, 10, 36, 1.5),
        tree=search.sampler.tree.state_dict(),
    )


@pytest.fixture(scope="module")
def pooling() -> SearchResult:
    """A search of 36 architectures."""
    return searched(TABLE.space, TabularEstimator(TABLE, np.random.default_rng(1)))


BIG = SearchSpace("big", [Choice(f"layer{i}", ("conv3", "conv5", "skip")) for i in range(4)])


@pytest.fixture(scope="module")
def big() -> SearchResult:
    """A search of 81 architectures."""
    values = {a: 0.5 + 0.1 * sum(option == 1 for option in a) for a in BIG}
    return searched(BIG, FakeSupernet(BIG, values))


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


def dots(axes: Axes, label: str | None = None) -> list[tuple[float, float]]:
    """Return the places of the scattered dots, all or those of one label."""
    clouds = [c for c in axes.collections if isinstance(c, PathCollection)]
    chosen = [c for c in clouds if label is None or c.get_label() == label]
    return [(float(x), float(y)) for c in chosen for x, y in np.asarray(c.get_offsets())]


def dashed(axes: Axes) -> list[float]:
    return [float(np.asarray(line.get_xdata())[0]) for line in axes.lines if line.is_dashed()]


# Draws over time.


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
    assert [t.get_text() for t in top.get_xticklabels()] == [name for name, _ in PHASES]
    assert top.get_xticks().tolist() == [100, 260, 360]


def test_many_short_phases_have_upright_names_that_do_not_cover_each_other() -> None:
    draws = tuple(Draw(min(step // 4, 99), step, (0,)) for step in range(400))
    result = replace(_one(), phases=tuple((f"round {i}", 4) for i in range(100)), draws=draws)
    top = plots.sampling_shares(result).axes[0].child_axes[0]
    places = top.get_xticks()
    assert min(np.diff(places)) >= 0.033 * 400
    assert {t.get_rotation() for t in top.get_xticklabels()} == {90}


def test_the_heat_map_shows_the_forty_drawn_most_in_the_spaces_order(big: SearchResult) -> None:
    figure = plots.sampling_shares(big, space=BIG)
    counts = Counter(d.architecture for d in big.draws)
    shown = [BIG.at(names_of_big().index(name)) for name in names(figure.axes[0])]
    assert len(shown) == 40
    assert shown == sorted(shown)
    left_out = [counts[a] for a in counts if a not in shown]
    assert min(counts[a] for a in shown) >= max(left_out)
    assert f"the 40 most drawn of {len(counts)} architectures" in title(figure)


def names_of_big() -> list[str]:
    return [BIG.describe(a) for a in BIG]


def test_architectures_without_a_name_go_by_their_option_indices(big: SearchResult) -> None:
    ranked = {line.name for line in big.ranking}
    found = set(names(plots.sampling_shares(big).axes[0]))
    assert found - ranked
    assert all(set(name) <= set("012-") for name in found - ranked)


def test_windows_that_nothing_was_drawn_in_stay_empty(pooling: SearchResult) -> None:
    interrupted = replace(pooling, draws=pooling.draws[:100])
    shares = colours(plots.sampling_shares(interrupted, windows=4).axes[0])
    assert np.isnan(shares).all(axis=0).tolist() == [False, True, True, True]


def test_steps_that_train_several_architectures_share_their_window() -> None:
    draws = tuple(Draw(0, step, (option,)) for step in range(4) for option in (0, 1))
    shares = colours(plots.sampling_shares(replace(_one(), draws=draws)).axes[0])
    assert (shares == 0.5).all()


def _one() -> SearchResult:
    """Four steps of a space with two architectures, without rewards, tree and macs."""
    line = RankedArchitecture((0,), "<first>", {"layer": "a"}, 0.75)
    return SearchResult(
        strategy="Uniform",
        settings={},
        seed=0,
        space={"name": "two", "size": 2},
        phases=(("uniform", 4),),
        draws=tuple(Draw(0, step, (step % 2,)) for step in range(4)),
        ranking=(line,),
        budget=Budget(4, 4, 0, 1, 0, 0.1),
    )


# Rewards.


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


def test_the_moving_average_is_centred_and_shorter_at_the_ends_of_a_phase() -> None:
    # By hand, windows of 3: (0 + .3) / 2, (0 + .3 + .6) / 3, (.3 + .6 + .9) / 3, (.6 + .9) / 2.
    rewards = (0.0, 0.3, 0.6, 0.9)
    draws = tuple(Draw(0, step, (0,), reward) for step, reward in enumerate(rewards))
    (curve,) = plots.reward_curve(replace(_one(), draws=draws), window=3).axes[0].lines
    np.testing.assert_allclose(np.asarray(curve.get_ydata()), [0.15, 0.3, 0.6, 0.75])


def test_the_moving_average_does_not_cross_from_phase_to_phase() -> None:
    draws = tuple(Draw(step // 2, step, (0,), float(step // 2)) for step in range(4))
    result = replace(_one(), phases=(("low", 2), ("high", 2)), draws=draws)
    curves = [
        line for line in plots.reward_curve(result, window=4).axes[0].lines if not line.is_dashed()
    ]
    assert [np.asarray(c.get_ydata()).tolist() for c in curves] == [[0, 0], [1, 1]]


def test_phases_without_rewards_are_shaded_and_say_so(pooling: SearchResult) -> None:
    axes = plots.reward_curve(pooling).axes[0]
    (shade,) = [p for p in axes.patches if isinstance(p, Rectangle)]
    assert (shade.get_x(), shade.get_width()) == (0, 200)
    assert [t.get_text() for t in axes.texts] == ["no rewards asked"]


def test_no_reward_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="draws of the result must have a reward to show"):
        plots.reward_curve(_one())


# The tree.


def rings(axes: Axes) -> list[float]:
    """Return the rows that are marked as found."""
    clouds = [c for c in axes.collections if isinstance(c, PathCollection)]
    empty = [c for c in clouds if len(c.get_facecolor()) == 0]
    return [float(y) for c in empty for _, y in np.asarray(c.get_offsets())]


def lines(axes: Axes) -> list[list[tuple[float, float]]]:
    """Return the solid lines of the tree."""
    solid = next(c for c in axes.collections if isinstance(c, LineCollection))
    return [[(float(x), float(y)) for x, y in segment] for segment in solid.get_segments()]


def test_the_dendrogram_names_all_leaves_and_joins_them_at_the_trees_heights(
    pooling: SearchResult,
) -> None:
    figure = plots.dendrogram(pooling, space=TABLE.space)
    axes = figure.axes[0]
    assert sorted(names(axes)) == sorted(TABLE.space.describe(a) for a in TABLE.space)
    drawn = lines(axes)
    assert len(drawn) == 3 * 35  # two branches and one bar for each fork
    assert pooling.tree is not None
    heights = sorted(height for _, _, height in pooling.tree["merges"])
    bars = sorted(a[0] for a, b in drawn if a[0] == b[0] and a[1] != b[1])
    np.testing.assert_allclose(bars, heights)
    assert axes.get_xlabel() == "kl distance at which branches join, average linkage (nats)"
    assert title(figure) == "The tree over 36 architectures (ring: found)"
    left, right = axes.get_xlim()
    assert left > right  # the root on the left


def test_siblings_of_the_first_merge_are_neighbours_in_the_dendrogram(
    pooling: SearchResult,
) -> None:
    listed = names(plots.dendrogram(pooling, space=TABLE.space).axes[0])
    assert pooling.tree is not None
    one, two = (
        TABLE.space.describe(TABLE.space.at(int(i))) for i in pooling.tree["merges"][0][:2]
    )
    assert abs(listed.index(one) - listed.index(two)) == 1


def test_the_dendrogram_colours_leaves_by_their_mean_reward_and_rings_the_found_one(
    pooling: SearchResult,
) -> None:
    figure = plots.dendrogram(pooling, space=TABLE.space)
    axes, bar = figure.axes
    rewards: dict[str, list[float]] = {}
    for draw in pooling.draws:
        if draw.reward is not None:
            rewards.setdefault(TABLE.space.describe(draw.architecture), []).append(draw.reward)
    listed = names(axes)
    asked = [name for name in listed if name in rewards]
    np.testing.assert_allclose(colours(axes), [np.mean(rewards[name]) for name in asked])
    assert [listed[int(row)] for row in rings(axes)] == [pooling.best.name] == bold(axes)
    assert "mean reward (%)" in bar.get_xlabel()


def test_the_dendrogram_takes_the_ranking_when_every_leaf_is_ranked() -> None:
    estimator = FakeSupernet(TABLE.space, TABLE.accuracies)
    result = searched(TABLE.space, estimator, candidates=None)
    axes, bar = plots.dendrogram(result).axes
    by_name = {line.name: line.accuracy for line in result.ranking}
    np.testing.assert_allclose(colours(axes), [by_name[name] for name in names(axes)])
    assert bar.get_xlabel() == "accuracy on the whole validation set (%)"


def test_leaves_that_nothing_is_known_about_are_grey(pooling: SearchResult) -> None:
    asked = [d for d in pooling.draws if d.reward is not None][:5]
    axes = plots.dendrogram(replace(pooling, draws=tuple(asked))).axes[0]
    known = len({d.architecture for d in asked})
    assert len(colours(axes)) == known
    clouds = [c for c in axes.collections if isinstance(c, PathCollection)]
    assert sorted(len(np.asarray(c.get_offsets())) for c in clouds) == [1, known, 36 - known]


def test_a_large_tree_is_folded_below_its_highest_forks(big: SearchResult) -> None:
    figure = plots.dendrogram(big, space=BIG, leaves=10)
    axes = figure.axes[0]
    listed = names(axes)
    assert len(listed) == 10
    single = [name for name in listed if name in names_of_big()]
    folded = [int(name.split()[0]) for name in listed if name not in names_of_big()]
    assert sum(folded) + len(single) == 81
    bars = sorted(a[0] for a, b in lines(axes) if a[0] == b[0] and a[1] != b[1])
    assert big.tree is not None
    highest = sorted(height for _, _, height in big.tree["merges"])[-9:]
    np.testing.assert_allclose(bars, highest)
    assert title(figure).endswith("folded to its 10 highest branches")
    assert len(rings(axes)) == 1


def test_trees_of_more_than_sixty_leaves_are_folded_to_sixty(big: SearchResult) -> None:
    assert len(names(plots.dendrogram(big).axes[0])) == 60


def test_a_rank_tree_and_a_tree_of_one_leaf_can_be_drawn(pooling: SearchResult) -> None:
    space = TABLE.space
    ranks = rank_tree(space.enumerate(), [TABLE.accuracies[a] for a in space])
    ordered = names(
        plots.dendrogram(replace(pooling, tree=ranks.state_dict()), space=space).axes[0]
    )
    best_first = sorted(space, key=lambda a: -TABLE.accuracies[a])
    assert ordered == [space.describe(a) for a in best_first]
    one = cluster_tree([best_first[0]], np.zeros(0)).state_dict()
    assert names(plots.dendrogram(replace(pooling, tree=one), space=space).axes[0]) == ordered[:1]


def test_results_without_a_binary_tree_are_refused(pooling: SearchResult) -> None:
    layers = replace(pooling, tree=layer_tree(TABLE.space).state_dict())
    for result, kind in ((layers, "'layers'"), (replace(pooling, tree=None), "None")):
        with pytest.raises(ValueError, match=f"must be of kind 'binary', got {kind}"):
            plots.dendrogram(result)


# The ranking.


def bars(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def test_the_ranking_has_a_bar_to_each_accuracy_with_its_macs(pooling: SearchResult) -> None:
    whole = searched(TABLE.space, FakeSupernet(TABLE.space, TABLE.accuracies), candidates=None)
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


def test_the_ranking_shows_no_more_than_asked_and_no_macs_where_unknown() -> None:
    axes = plots.ranking(_one(), top=3).axes[0]
    assert len(bars(axes)) == 1
    assert axes.texts[0].get_text() == "75.0 %"


def test_accuracies_of_zero_can_be_ranked() -> None:
    line = replace(_one().ranking[0], accuracy=0.0)
    axes = plots.ranking(replace(_one(), ranking=(line,))).axes[0]
    assert axes.texts[0].get_text() == "0.0 %"
    assert axes.get_xlabel() == "validation accuracy (%)"
    assert axes.get_xlim()[0] == 0.0 < axes.get_xlim()[1]


# Retrainings.


def bands(axes: Axes) -> list[ErrorbarContainer]:
    return [c for c in axes.containers if isinstance(c, ErrorbarContainer)]


def test_every_seed_is_a_dot_and_several_seeds_have_mean_and_interval() -> None:
    accuracies = {"[5,3,2]": [0.97, 0.98, 0.99], "[4,2,2]": [0.94, 0.95], "once": [0.9]}
    figure = plots.seeds(accuracies)
    axes = figure.axes[0]
    placed = [(x, round(y)) for x, y in dots(axes)]
    rows = enumerate(accuracies.values())
    assert placed == [(value, row) for row, values in rows for value in values]
    means = [float(np.asarray(band.lines[0].get_xdata())[0]) for band in bands(axes)]
    assert means == pytest.approx([0.98, 0.945])
    found = mean_interval(accuracies["[5,3,2]"])
    segment = bands(axes)[0].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(segment[:, 0], [found.low, found.high])
    # t(0.975, 2) = 4.302653 and a deviation of 1 point: 98 -+ 2.484.
    assert names(axes)[0] == "[5,3,2]\n98.0 % [95.5, 100.5], n = 3"
    assert names(axes)[2] == "once\n90.0 %, n = 1"
    assert axes.get_xlabel() == "accuracy on the test set (%)"


TRIALS = (
    (0, 0.90, "COMPLETE"),
    (1, 0.88, "COMPLETE"),
    (2, 0.92, "COMPLETE"),
    (3, 0.895, "PRUNED"),
    (4, 0.0, "PRUNED"),
    (5, None, "FAIL"),
    (6, 0.91, "COMPLETE"),
    (7, None, "RUNNING"),
)


def best_so_far(axes: Axes) -> Line2D:
    (line,) = [line for line in axes.lines if line.get_label() == "best so far"]
    return line


def test_the_history_has_every_trial_by_its_state_and_the_best_so_far() -> None:
    axes = plots.study_history({"[5,3,2]": TRIALS}).axes[0]
    assert dots(axes, "complete") == [(0, 0.90), (1, 0.88), (2, 0.92), (6, 0.91)]
    assert dots(axes, "pruned") == [(3, 0.895)]
    low = axes.get_ylim()[0]
    assert 0.8 < low < 0.88  # the diverged trial does not stretch the axis
    assert dots(axes, "pruned, not on the axis") == [(4, low)]
    assert dots(axes, "failed or interrupted") == [(5, low)]
    assert dots(axes, "trial 0: published recipe") == [(0, 0.90)]
    assert np.asarray(best_so_far(axes).get_ydata()).tolist() == [0.90, 0.90, 0.92, 0.92]
    assert axes.get_title(loc="left") == "Recipe search: [5,3,2]"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("trial", "validation accuracy (%)")


def test_an_optuna_study_is_drawn_as_its_trials() -> None:
    epochs = ([0.8, 0.9], [0.9, 0.95], [0.86], [0.9, 0.93])

    def objective(trial: optuna.Trial) -> float:
        for epoch, accuracy in enumerate(epochs[trial.number]):
            trial.report(accuracy, epoch)
        if len(epochs[trial.number]) == 1:
            raise optuna.TrialPruned
        return epochs[trial.number][-1]

    study = optuna.create_study(direction="maximize")
    study.optimize(objective, n_trials=4)
    figure = plots.study_history({"a": study, "b": TRIALS}, first="first recipe")
    one, two = figure.axes
    assert dots(one, "complete") == [(0, 0.9), (1, 0.95), (3, 0.93)]
    assert dots(one, "pruned") == [(2, 0.86)]
    assert dots(one, "trial 0: first recipe") == [(0, 0.9)]
    assert (one.get_xlabel(), two.get_xlabel()) == ("", "trial")
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert len(labels) == len(set(labels)) == 6


def test_accuracy_against_macs_has_a_point_and_an_interval_for_each_network() -> None:
    networks = {"large": (62.8e6, [0.97, 0.98, 0.99]), "small": (26.7e6, [0.9])}
    figure = plots.accuracy_against_macs(networks)
    axes = figure.axes[0]
    points = [np.asarray(band.lines[0].get_xydata())[0].tolist() for band in bands(axes)]
    np.testing.assert_allclose(points, [[62.8, 0.98], [26.7, 0.9]])
    found = mean_interval(networks["large"][1])
    segment = bands(axes)[0].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(segment[:, 1], [found.low, found.high])
    assert not bands(axes)[1].has_yerr
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["large, n = 3", "small, n = 1"]
    assert axes.get_xlabel() == "macs of one image (M)"


# What all figures share.


def everything(pooling: SearchResult, big: SearchResult) -> dict[str, Figure]:
    long = 4 * "a-very-long-name-of-a-network-that-somebody-thought-of"
    return {
        "shares": plots.sampling_shares(pooling, space=TABLE.space),
        "many shares": plots.sampling_shares(big, space=BIG),
        "rewards": plots.reward_curve(pooling),
        "tree": plots.dendrogram(pooling, space=TABLE.space),
        "folded tree": plots.dendrogram(big, space=BIG),
        "ranking": plots.ranking(pooling),
        "long ranking": plots.ranking(big),
        "one ranked": plots.ranking(_one()),
        "seeds": plots.seeds({long: [0.9, 0.91], "b": [0.95]}),
        "history": plots.study_history({long: TRIALS}),
        "macs": plots.accuracy_against_macs({long: (1e6, [0.9, 0.91]), "b": (2e6, [0.95])}),
    }


def test_no_text_of_any_figure_is_cut_off(pooling: SearchResult, big: SearchResult) -> None:
    for name, figure in everything(pooling, big).items():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib leaves it untyped
        renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]  # this too
        width, height = figure.bbox.width, figure.bbox.height
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            box = text.get_window_extent(renderer)
            if not text.get_visible() or not text.get_text() or not _shown(text, figure):
                continue
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
            assert inside, f"{name}: {text.get_text()!r} at {box}"


def _shown(text: Text, figure: Figure) -> bool:
    """Say whether a text is not a tick label that matplotlib keeps outside the limits."""
    for axes in [*figure.axes, *(child for a in figure.axes for child in a.child_axes)]:
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for tick in axis.get_major_ticks():
                if text in (tick.label1, tick.label2):
                    return min(limits) <= tick.get_loc() <= max(limits)
    return True


def test_a_png_is_704_pixels_wide_and_the_same_for_the_same_figure(
    pooling: SearchResult,
) -> None:
    image = plots.to_png(plots.ranking(pooling))
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">I", image[16:20]) == (704,)
    assert plots.to_png(plots.ranking(pooling)) == image


def test_figures_are_saved_by_the_ending_of_the_file(tmp_path: Path) -> None:
    starts = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    for ending, start in starts.items():
        plots.save(plots.ranking(_one()), tmp_path / "deep" / f"figure.{ending}")
        assert (tmp_path / "deep" / f"figure.{ending}").read_bytes().startswith(start)
    with pytest.raises(ValueError, match=r"path must end in .png, .svg or .pdf, got figure.jpg"):
        plots.save(plots.ranking(_one()), "figure.jpg")


def test_names_that_look_like_mathematics_are_drawn_as_they_are() -> None:
    line = replace(_one().ranking[0], name=r"$\frac{a$ and $x_1")
    figure = plots.ranking(replace(_one(), ranking=(line,)))
    assert plots.to_png(figure)
    assert plots.to_png(plots.seeds({r"$\frac{$": [0.9]}))


def test_drawing_does_not_import_pyplot_torch_or_nni() -> None:
    script = (
        "import sys\n"
        "from nas_ext import plots\n"
        "plots.to_png(plots.seeds({'a': [0.9, 0.91]}))\n"
        "print([m for m in ('matplotlib.pyplot', 'torch', 'nni', 'optuna') if m in sys.modules])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda r: plots.sampling_shares(r, windows=0), "windows must be at least 1, got 0"),
        (lambda r: plots.sampling_shares(replace(r, draws=())), "draws of the result must not be"),
        (lambda r: plots.reward_curve(r, window=0), "window must be at least 1, got 0"),
        (lambda r: plots.dendrogram(r, leaves=1), r"leaves must lie in \[2, 300\], got 1"),
        (lambda r: plots.ranking(r, top=0), "top must be at least 1, got 0"),
        (lambda r: plots.ranking(replace(r, ranking=())), "ranking of the result must not be"),
        (lambda r: plots.seeds({}), "accuracies must not be empty"),
        (lambda r: plots.seeds({"a": []}), "accuracies of 'a' must not be empty"),
        (lambda r: plots.study_history({}), "studies must not be empty"),
        (
            lambda r: plots.study_history({"a": [(0, None, "RUNNING")]}),
            "study 'a' must have a complete or pruned trial",
        ),
        (lambda r: plots.accuracy_against_macs({}), "networks must not be empty"),
        (lambda r: plots.accuracy_against_macs({"a": (1.0, [])}), "networks of 'a' must not be"),
    ],
)
def test_figures_refuse_what_they_cannot_show(
    pooling: SearchResult, draw: Callable[[SearchResult], Figure], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        draw(pooling)
