"""Competitors that train all options of a layer at once, on a plain product of layer choices."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas_ext.benchmarks.measured import MeasuredTable, measured_table
from nas_ext.comparison import Comparison, compare, competitors
from nas_ext.comparison.competitor import passes_of_mixture
from nas_ext.comparison.nni_darts import log_products, nni_darts
from nas_ext.comparison.outcome import outcome, write_runs
from nas_ext.data import load
from nas_ext.nasbench_macro import NASBenchMacroSpace, nasbench_macro_plan
from nas_ext.nni import DARTS
from nas_ext.oneshot import MixedLayer
from nas_ext.report.comparison import write_comparison_report
from nas_ext.runs import Training
from nas_ext.spaces import create
from nas_ext.strategies.gaea import GAEA

SIZES: dict[str, Any] = {"stem": 8, "widths": [8], "layers": [2], "head": 8}
ARGUMENTS = {"name": "nasbench-macro", **SIZES}
SPACE = NASBenchMacroSpace(nasbench_macro_plan(**SIZES))
DATA = load("digits")
TRAINING = Training(
    steps=24, batch_size=16, validation_batch_size=64, device="cpu", progress=False, augment=False
)
MANIFEST = {"settings": {"recipe": {"epochs": 1}}, "data": {"images": {"train": 96}}}
NAMES = "uniform nni-darts nni-darts:equal=steps gaea random-search"


def table() -> MeasuredTable:
    rng = np.random.default_rng(0)
    lines = ["name,architecture,macs,parameters,seed0,seed1"]
    for place, a in enumerate(SPACE):
        one, two = 80 + place + rng.normal(size=2)
        code = " ".join(map(str, a))
        lines.append(f"{SPACE.describe(a)},{code},{100 + place},7,{one:.2f},{two:.2f}")
    text = "\n".join(lines) + "\n"
    return measured_table(text, SPACE, name="tiny", source="made up", manifest=MANIFEST)


def made() -> Comparison:
    return Comparison(
        space=ARGUMENTS,
        data="digits",
        image_size=None,
        competitors=competitors(NAMES.split()),
        seeds=(0, 1),
        training=TRAINING,
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mixed")
    judged = compare(made(), table(), out=out)
    write_runs(out / "runs.csv", judged)
    values = outcome(table(), judged, reference="uniform")
    (out / "result.json").write_text(json.dumps(values))
    write_comparison_report(out / "report.html", made(), table(), judged, reference="uniform")
    return out


def scores(ran: Path, name: str, seed: int = 0) -> dict[str, Any]:
    file = ran / "searches" / name / f"seed{seed}" / "scores.json"
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_a_step_of_a_mixture_costs_the_passes_of_all_its_options_twice() -> None:
    # Macs by hand for images of 8 x 8: the stem 3x3 from 1 to 8 channels; the first layer halves,
    # by a 1x1 convolution, or 8 to 8e channels at 8 x 8, k x k on each and 8e to 8 at 4 x 4; the
    # second stays at 4 x 4; then 8 to 8 channels and 10 classes.
    stem = 9 * 1 * 8 * 64

    def block(e: int, k: int, before: int) -> int:
        return 8 * 8 * e * before + k * k * 8 * e * 16 + 8 * e * 8 * 16

    first = [8 * 8 * 16, block(3, 3, 64), block(6, 5, 64)]
    second = [0, block(3, 3, 16), block(6, 5, 16)]
    tail = 8 * 8 * 16 + 8 * 10
    mixture = stem + sum(first) + sum(second) + tail
    mean = stem + sum(first) / 3 + sum(second) / 3 + tail
    assert passes_of_mixture(ARGUMENTS, DATA) == pytest.approx(2 * mixture / mean)


def test_mixtures_get_fewer_steps_for_the_same_passes_unless_steps_are_equal(ran: Path) -> None:
    fewer = int(24 / passes_of_mixture(ARGUMENTS, DATA))
    assert 1 < fewer < 24 / 2
    assert scores(ran, "nni-darts")["steps"] == fewer
    assert scores(ran, "gaea")["steps"] == fewer
    assert scores(ran, "nni-darts-equal-steps")["steps"] == 24
    assert scores(ran, "uniform")["steps"] == 24


def test_nnis_darts_takes_as_many_steps_as_it_is_given(tmp_path: Path) -> None:
    sizes = {k: v for k, v in ARGUMENTS.items() if k != "name"}
    training = Training(steps=5, batch_size=16, device="cpu", progress=False)
    runs = [
        nni_darts(
            "nasbench-macro",
            DATA,
            out=tmp_path / f"{place}",
            training=training,
            seed=seed,
            arguments=sizes,
            arc_learning_rate=0.1,
        )
        for place, seed in enumerate((0, 0, 1))
    ]
    assert runs[0].steps == 5
    assert runs[0].probabilities == runs[1].probabilities
    assert runs[0].probabilities != runs[2].probabilities
    for row in runs[0].probabilities.values():
        assert math.fsum(row.values()) == pytest.approx(1)


def test_nnis_mixture_is_the_weighted_sum_that_ours_is() -> None:
    # NNI hands all candidates one tensor: a first operation in place would change the others'
    torch.manual_seed(0)
    theirs = create(num_classes=3, in_chs=1, **ARGUMENTS)
    ours = create(num_classes=3, in_chs=1, **ARGUMENTS)
    ours.load_state_dict(theirs.state_dict())
    nnis, mixed = DARTS().mutate_model(theirs), GAEA().mutate_model(ours)
    weights = torch.tensor([0.5, 0.2, 0.3])
    for module in nnis.modules():
        alpha: Any = getattr(module, "_arch_alpha", None)
        if alpha is not None:
            alpha.data.copy_(weights.log())
    for module in mixed.modules():
        if isinstance(module, MixedLayer):
            module.mix(weights)
    images = torch.rand(4, 1, 8, 8)
    assert torch.allclose(nnis(images), mixed(images), atol=1e-5)


def test_the_pick_of_a_mixture_is_the_first_of_its_products(ran: Path) -> None:
    found = scores(ran, "nni-darts")
    products = {
        tuple(a): math.prod(dict(row)[o] for row, o in zip(rows, options_of(a), strict=True))
        for a, _ in found["scores"]
        for rows in [list(found["probabilities"].values())]
    }
    assert tuple(found["pick"]) == max(products, key=lambda a: products[a])
    for a, score in found["scores"]:
        assert math.exp(score) == pytest.approx(products[tuple(a)])
    picks = rows_of(ran, "nni-darts")
    assert picks[0]["pick"] == SPACE.describe(tuple(found["pick"]))


def options_of(architecture: list[int]) -> list[str]:
    return [str(c.options[k]) for c, k in zip(SPACE.choices, architecture, strict=True)]


def rows_of(ran: Path, competitor: str) -> list[dict[str, str]]:
    with open(ran / "runs.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row["competitor"] == competitor]


def test_random_search_stands_beside_them_without_a_tau(ran: Path) -> None:
    # 24 passes of 16 images are four trainings of 96 images
    assert {row["different_drawn"] for row in rows_of(ran, "random-search")} == {"4"}
    assert {row["tau"] for row in rows_of(ran, "random-search")} == {""}
    values = json.loads((ran / "result.json").read_text())
    assert "tau" not in values["means"]["random-search"]
    assert "random-search" not in [c["competitor"] for c in values["contrasts"]["tau"]]
    assert "random-search" in [c["competitor"] for c in values["contrasts"]["regret"]]
    assert "nni-darts" in values["average_ranks"]["tau"]["ranks"]
    judged = compare(made(), table(), out=ran)
    turned = outcome(table(), judged, reference="random-search")["contrasts"]
    assert list(turned) == ["regret"]
    assert len(turned["regret"]) == len(NAMES.split()) - 1
    assert "random-search" in (ran / "report.html").read_text(encoding="utf-8")


def test_the_logarithms_order_as_the_products_do() -> None:
    space = create("nasbench-macro", num_classes=2, in_chs=1, **SIZES).search_space
    rows = {
        c.label: dict(zip(c.options, shares, strict=True))
        for c, shares in zip(space.choices, ([0.5, 0.3, 0.2], [0.1, 0.6, 0.3]), strict=True)
    }
    found = log_products(space, rows)
    assert math.exp(found[(0, 1)]) == pytest.approx(0.3)
    assert max(found, key=lambda a: found[a]) == (0, 1)


def test_all_stands_for_every_competitor_that_fits() -> None:
    labels = [one.label for one in competitors(["all"], space=ARGUMENTS, table=table())]
    assert {"nni-darts", "gaea", "resolution-darts", "random-search", "mcts"} <= set(labels)
    pooling = [one.label for one in competitors(["all"], space={"name": "mini-pooling"})]
    assert not {"nni-darts", "gaea", "random-search"} & set(pooling)
    assert "nni-random-oneshot" in pooling
