"""The dendrogram: its leaves, heights, colours and folded branches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nas_ext import plots
from nas_ext.architecture import SearchSpace
from nas_ext.benchmarks import pooling_table
from nas_ext.results import SearchResult
from nas_ext.tree import cluster_tree, layer_tree, rank_tree

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


def test_the_dendrogram_takes_the_ranking_when_every_leaf_is_ranked(whole: SearchResult) -> None:
    axes, bar = plots.dendrogram(whole).axes
    by_name = {line.name: line.accuracy for line in whole.ranking}
    np.testing.assert_allclose(colours(axes), [by_name[name] for name in names(axes)])
    assert bar.get_xlabel() == "accuracy on the whole validation set (%)"


def test_leaves_that_nothing_is_known_about_are_grey(pooling: SearchResult) -> None:
    asked = [d for d in pooling.draws if d.reward is not None][:5]
    axes = plots.dendrogram(replace(pooling, draws=tuple(asked))).axes[0]
    known = len({d.architecture for d in asked})
    assert len(colours(axes)) == known
    clouds = [c for c in axes.collections if isinstance(c, PathCollection)]
    assert sorted(len(np.asarray(c.get_offsets())) for c in clouds) == [1, known, 36 - known]


def test_a_large_tree_is_folded_below_its_highest_forks(
    big: SearchResult, big_space: SearchSpace
) -> None:
    figure = plots.dendrogram(big, space=big_space, leaves=10)
    axes = figure.axes[0]
    listed = names(axes)
    assert len(listed) == 10
    known = {big_space.describe(a) for a in big_space}
    single = [name for name in listed if name in known]
    folded = [int(name.split()[0]) for name in listed if name not in known]
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
