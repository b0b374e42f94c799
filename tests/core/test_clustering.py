"""Learned trees against SciPy, against the definition of average linkage, and against memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist, pdist, squareform

from nas_ext.architecture import Architecture
from nas_ext.bilinear import Bilinear
from nas_ext.estimation import FloatArray
from nas_ext.pooling import PoolingSpace
from nas_ext.similarity import BILINEAR, DISTANCES, encoding_rows
from nas_ext.tree import BinaryTree, Linkage, cluster_rows, cluster_tree, clusters, tree_from_state
from nas_ext.tree.bisecting import LEAF_SIZE, bisecting_merges
from nas_ext.tree.merging import average_merges, room_for


def names(count: int) -> list[Architecture]:
    return [(i,) for i in range(count)]


def euclidean(points: FloatArray) -> Bilinear:
    return encoding_rows(points, weights=np.ones(points.shape[1]))


def grouped(count: int, columns: int = 6, seed: int = 0) -> FloatArray:
    """Groups within groups: each row is a sum of a coarse, a middle, a fine part and noise."""
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(k, columns))[rng.integers(k, size=count)] for k in (3, 9, 27)]
    return np.asarray(sum(parts) + 0.1 * rng.normal(size=(count, columns)))


def scattered(count: int, columns: int = 40) -> FloatArray:
    return np.random.default_rng(1).normal(size=(count, columns))


def spread_out(count: int) -> FloatArray:
    """Each point is farther from the next than all before it: one mutual pair at any time."""
    return np.cumsum(1.01 ** np.arange(count), dtype=np.float64)[:, None]


def merged(distances: FloatArray, dtype: Any = np.float64, room: int | None = None) -> FloatArray:
    """Merge a condensed vector in a matrix of a precision, with so much room."""
    square = squareform(distances)
    size = room_for(len(square)) if room is None else room
    matrix = np.full((size, size), np.nan, dtype=dtype)  # a trap for whoever reads beside it
    matrix[: len(square), : len(square)] = square
    return average_merges(matrix, len(square))


def members(merges: Any, count: int) -> list[frozenset[int]]:
    """Return the leaves below each merge."""
    sets = [frozenset([i]) for i in range(count)]
    for left, right, *_ in merges:
        sets.append(sets[int(left)] | sets[int(right)])
    return sets[count:]


@pytest.mark.parametrize("points", [grouped(400), scattered(300), spread_out(300), scattered(2)])
def test_average_linkage_is_that_of_scipy(points: FloatArray) -> None:
    distances = pdist(points)
    ours, scipys = merged(distances), linkage(distances, "average")
    np.testing.assert_allclose(ours[:, 2], scipys[:, 2], rtol=1e-12)
    assert members(ours, len(points)) == members(scipys, len(points))


def test_in_single_precision_heights_keep_five_digits() -> None:
    distances = pdist(grouped(400))
    heights = linkage(distances, "average")[:, 2]
    np.testing.assert_allclose(merged(distances, np.float32)[:, 2], heights, rtol=1e-5)


@pytest.mark.parametrize("extra", [1, 3, 50])
def test_little_room_gives_the_same_merges(extra: int) -> None:
    distances = pdist(grouped(200))
    np.testing.assert_allclose(merged(distances, room=200 + extra), merged(distances), rtol=1e-12)


def test_equal_distances_still_join_groups_at_the_mean_of_their_pairs() -> None:
    # The definition; which of equal pairs comes first is free.
    points = np.random.default_rng(2).integers(0, 3, size=(150, 4)).astype(np.float64)
    square = cdist(points, points)
    merges = merged(squareform(square))
    sets = [frozenset([i]) for i in range(150)] + members(merges, 150)
    assert sets[-1] == frozenset(range(150))
    assert (np.diff(merges[:, 2]) >= 0).all()
    for left, right, height in merges:
        pairs = square[np.ix_(list(sets[int(left)]), list(sets[int(right)]))]
        assert height == pytest.approx(pairs.mean(), abs=1e-12)


def test_each_merge_takes_the_nearest_two_groups_there_are() -> None:
    # The definition, step by step.
    points = grouped(40)
    square = cdist(points, points)
    groups = [frozenset([i]) for i in range(40)]
    for expected in members(merged(squareform(square)), 40):
        means = {
            a | b: square[np.ix_(list(a), list(b))].mean()
            for i, a in enumerate(groups)
            for b in groups[i + 1 :]
        }
        nearest = min(means, key=means.__getitem__)
        assert nearest == expected
        groups = [group for group in groups if not group <= nearest] + [nearest]


@pytest.mark.parametrize("method", ["average", "complete", "ward"])
@pytest.mark.parametrize("few", [10, 1_000])
def test_the_exact_tree_of_rows_is_that_of_their_pairs(
    method: Linkage, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "FEW", few)
    rows = euclidean(grouped(120))
    tree = cluster_rows(names(120), rows, np.random.default_rng(0), linkage=method)
    expected = cluster_tree(names(120), pdist(grouped(120)), method=method)
    assert members(tree.merges, 120) == members(expected.merges, 120)
    heights, theirs = (np.asarray([h for *_, h in t.merges]) for t in (tree, expected))
    np.testing.assert_allclose(heights, theirs, rtol=1e-5)


def test_pairs_take_a_matrix_in_single_precision_and_a_block_beside_it() -> None:
    count = 2_000
    rows = euclidean(grouped(count))
    tracemalloc.start()
    merges = clusters._exact_merges(rows, "average")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(merges) == count - 1
    assert peak < 4 * room_for(count) ** 2 + 8 * 512 * count + 3e6


# Bisecting


@pytest.mark.parametrize("name", ["kl", "l2", "cross-entropy", "cosine"])
def test_bisecting_holds_every_architecture_once_and_heights_grow_upwards(name: str) -> None:
    rows = BILINEAR[name](grouped(700, columns=12).reshape(700, 4, 3))
    tree = cluster_rows(names(700), rows, np.random.default_rng(0), clustering="bisecting")
    leaves = [node.architecture for node in tree.nodes() if node.architecture is not None]
    assert sorted(leaves) == names(700)
    heights = [h for *_, h in tree.merges]
    assert heights == sorted(heights)
    assert all(child.height <= node.height for node in tree.nodes() for child in node.children)
    assert {len(node.children) for node in tree.nodes()} == {0, 2}


@pytest.mark.parametrize(
    ("name", "power"), [("kl", 1), ("l2", 2), ("cross-entropy", 1), ("cosine", 1)]
)
def test_halves_are_as_far_apart_as_their_pairs_on_average(name: str, power: int) -> None:
    # The height of average linkage; for the rooted distance the root of the mean square.
    logits = grouped(200, columns=12).reshape(200, 4, 3)
    merges = bisecting_merges(BILINEAR[name](logits), np.random.default_rng(0))
    sets = [frozenset([i]) for i in range(200)] + members(merges, 200)
    left, right = (list(sets[int(place)]) for place in merges[-1, :2])
    between = squareform(DISTANCES[name](logits))[np.ix_(left, right)]
    assert merges[-1, 2] == pytest.approx((between**power).mean() ** (1 / power), rel=1e-9)


@pytest.mark.parametrize("name", ["kl", "cosine"])
def test_two_far_groups_are_the_first_halves(name: str) -> None:
    rng = np.random.default_rng(4)
    side = rng.random(1500) < 0.2
    centres = rng.normal(size=(2, 4, 3))
    logits = np.where(side[:, None, None], centres[0], centres[1])
    rows = BILINEAR[name](logits + 0.1 * rng.normal(size=logits.shape))
    merges = bisecting_merges(rows, rng)
    sets = [frozenset([i]) for i in range(1500)] + members(merges, 1500)
    halves = {sets[int(place)] for place in merges[-1, :2]}
    groups = (np.flatnonzero(side), np.flatnonzero(~side))
    assert halves == {frozenset(group.tolist()) for group in groups}


def test_small_groups_are_clustered_exactly() -> None:
    points = grouped(LEAF_SIZE)
    merges = bisecting_merges(euclidean(points), np.random.default_rng(0))
    np.testing.assert_allclose(merges, linkage(pdist(points), "average")[:, :3], rtol=1e-12)


@pytest.mark.parametrize("make", [grouped, scattered])
def test_halves_explain_as_much_as_average_linkage(
    make: Callable[[int, int], FloatArray],
) -> None:
    # Goal of the performance study: the share of the squares left within 64 clusters is at most
    # 1.05 of what average linkage leaves, on rows of many columns.
    points = make(1_200, 100)
    bisected = bisecting_merges(euclidean(points), np.random.default_rng(0))

    def left_over(merges: FloatArray) -> float:
        labels = fcluster(np.column_stack([merges[:, :3], np.ones(len(merges))]), 64, "maxclust")
        groups = [points[labels == label] for label in np.unique(labels)]
        return float(sum(((group - group.mean(axis=0)) ** 2).sum() for group in groups))

    assert left_over(bisected) <= 1.05 * left_over(linkage(pdist(points), "average"))


def test_the_same_generator_gives_the_same_tree() -> None:
    rows = euclidean(grouped(1_500))
    first, second = (bisecting_merges(rows, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_bisecting_never_holds_the_pairs() -> None:
    # 3,000 rows: pairs would be 36 MB, the rows are .5.
    rows = euclidean(grouped(3_000, columns=20))
    tracemalloc.start()
    bisecting_merges(rows, np.random.default_rng(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


@pytest.mark.parametrize("distinct", [1, 2, 3])
def test_equal_rows_are_halved_to_the_end(distinct: int) -> None:
    points = np.repeat(scattered(distinct), 2_000 // distinct, axis=0)
    merges = bisecting_merges(euclidean(points), np.random.default_rng(0))
    assert len(merges) == len(points) - 1
    assert len(members(merges, len(points))[-1]) == len(points)
    assert (merges[:, 2] < 1e-6).sum() == len(points) - distinct


# Which way it was


@pytest.mark.parametrize(("limit", "expected"), [(100, "exact"), (99, "bisecting")])
def test_auto_compares_all_pairs_up_to_its_limit_and_says_so(limit: int, expected: str) -> None:
    rows = euclidean(grouped(100))
    tree = cluster_rows(names(100), rows, np.random.default_rng(0), exact_up_to=limit)
    assert (tree.origin["clustering"], tree.origin["linkage"]) == (expected, "average")
    assert tree.origin.get("exact_groups_up_to") == (64 if expected == "bisecting" else None)


def test_what_a_tree_was_made_by_survives_json() -> None:
    space = PoolingSpace(layers=10, poolings=2)
    rows = euclidean(np.asarray(list(space), dtype=np.float64))
    tree = cluster_rows(list(space), rows, np.random.default_rng(0))
    again = tree_from_state(space, json.loads(json.dumps(tree.state_dict())))
    assert isinstance(again, BinaryTree)
    assert again.origin == {"clustering": "exact", "linkage": "average"}
    assert again.state_dict() == tree.state_dict()


def test_an_exact_tree_draws_no_random_numbers() -> None:
    rng = np.random.default_rng(6)
    cluster_rows(names(100), euclidean(grouped(100)), rng)
    assert rng.random() == np.random.default_rng(6).random()


@pytest.mark.parametrize("clustering", ["exact", "bisecting"])
def test_one_architecture_is_a_tree_and_two_are_one_merge(clustering: Any) -> None:
    rng = np.random.default_rng(0)
    one = cluster_rows([(7,)], euclidean(np.ones((1, 2))), rng, clustering=clustering)
    assert one.root.architecture == (7,)
    two = cluster_rows(names(2), euclidean(np.eye(2)), rng, clustering=clustering)
    ((left, right, height),) = two.merges
    assert (left, right) == (0, 1)
    assert height == pytest.approx(np.sqrt(2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clustering": "fast"}, "clustering must be 'auto', 'exact' or 'bisecting', got 'fast'"),
        ({"linkage": "single"}, "linkage must be 'average', 'complete' or 'ward', got 'single'"),
        ({"linkage": "ward", "clustering": "bisecting"}, "linkage must be 'average' for 10 arch"),
        ({"linkage": "complete", "exact_up_to": 9}, "linkage must be 'average' for 10 arch"),
        ({"rows": euclidean(np.eye(9))}, "rows must be one for each of 10 architectures, got 9"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, Any], message: str) -> None:
    settings = {"rows": euclidean(np.eye(10)), "rng": np.random.default_rng(0), **changes}
    with pytest.raises(ValueError, match=message):
        cluster_rows(names(10), **settings)


def test_a_group_of_one_is_no_leaf_size() -> None:
    with pytest.raises(ValueError, match="leaf_size must be at least 2, got 1"):
        bisecting_merges(euclidean(np.eye(3)), np.random.default_rng(0), leaf_size=1)
