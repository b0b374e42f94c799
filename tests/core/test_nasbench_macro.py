"""NAS-Bench-Macro: the space and its costs in closed form, and the published file where it is."""

from __future__ import annotations

import json
import os
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

from nas_ext.benchmarks import NASBenchMacroSpace, Table, nasbench_macro_table
from nas_ext.benchmarks.nasbench_macro import FILE
from nas_ext.benchmarks.table import DATA

SPACE = NASBenchMacroSpace()


def made_up(code: str) -> dict[str, Any]:
    """A row in the published shape; encodings of one network agree."""
    network = SPACE.code(SPACE.canonical(SPACE.from_code(code)))
    mean = 40 + int(network, 3) / 200
    return {"test_acc": [mean - 1, mean, mean + 1], "mean_acc": mean, "std": 0.8,
            "params": int(network, 3), "flops": 1000 + int(code, 3)}  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a whole file of made-up rows."""
    path = tmp_path_factory.mktemp("macro") / FILE
    path.write_text(json.dumps({SPACE.code(a): made_up(SPACE.code(a)) for a in SPACE}))
    return path


@pytest.fixture(scope="module")
def published() -> Table:
    """Read the published file; skip where nobody said where it is."""
    if not os.environ.get(DATA):
        pytest.skip(f"{DATA} does not name the folder of {FILE}")
    return nasbench_macro_table()


def percent(table: Table, code: str) -> float:
    return 100 * table.accuracies[SPACE.from_code(code)]


def test_there_are_6561_encodings_of_3969_networks() -> None:
    # Golden number 1. By hand: an option and a free one in the first stage, 3 * 3; in the others
    # an option and the words of at most two letters out of two, 3 * (1 + 2 + 4).
    networks = {SPACE.canonical(a) for a in SPACE}
    assert SPACE.size == 3**8 == 6561
    assert len(networks) == (3 * 3) * (3 * 7) * (3 * 7) == 3969
    assert all(SPACE.canonical(network) == network for network in networks)


@pytest.mark.parametrize(
    ("code", "canonical"),
    # The two encodings of the best network; an identity never passes the first layer of a stage.
    [("22212202", "22212220"), ("22212220", "22212220"), ("02012012", "02012012"),
     ("01001001", "01010010"), ("10000000", "10000000"), ("22202202", "22220220")],
)  # fmt: skip
def test_identities_within_a_stage_move_to_its_end(code: str, canonical: str) -> None:
    assert SPACE.code(SPACE.canonical(SPACE.from_code(code))) == canonical


@pytest.mark.parametrize(
    ("code", "params", "macs"),
    # Golden number 9.
    [("00000000", 387_882, 7_713_280), ("22222222", 2_932_586, 105_660_928),
     ("11111111", 1_588_874, 53_246_464), ("22212220", 1_985_514, 85_164_544)],
)  # fmt: skip
def test_parameters_and_macs_are_the_published_ones(code: str, params: int, macs: int) -> None:
    architecture = SPACE.from_code(code)
    assert (SPACE.params(architecture), SPACE.macs(architecture)) == (params, macs)


def test_encodings_of_one_network_cost_the_same() -> None:
    for architecture in SPACE:
        network = SPACE.canonical(architecture)
        assert SPACE.params(architecture) == SPACE.params(network)
        assert SPACE.macs(architecture) == SPACE.macs(network)


def test_codes_name_architectures_in_the_order_of_the_space() -> None:
    codes = [SPACE.code(a) for a in SPACE]
    assert codes == sorted(codes)
    architecture = SPACE.from_code("22212220")
    assert SPACE.describe(architecture) == "22212220"
    assert SPACE.encode(SPACE.decode(architecture)) == architecture
    for wrong in ("2221222", "222122200", "22212223", ""):
        with pytest.raises(ValueError, match="code must be 8 digits out of 012"):
            SPACE.from_code(wrong)


def test_a_file_is_read_with_its_seeds(file: Path) -> None:
    table = nasbench_macro_table(file)
    architecture = SPACE.from_code("01001001")
    # The canonical code 01010010 is 84 + 243 + 27 + ... = 849 in base three: 40 + 849 / 200.
    mean = 40 + int("01010010", 3) / 200
    assert percent(table, "01001001") == pytest.approx(mean)
    assert table.seeds[architecture] == pytest.approx([(mean + d) / 100 for d in (-1, 0, 1)])
    assert table.deviations[architecture] == pytest.approx(0.008)
    assert table.params[architecture] == int("01010010", 3)
    assert table.macs[architecture] == 1000 + int("01001001", 3)
    assert len(table.networks) == 3969
    assert table.ranks()[architecture] == table.ranks()[SPACE.from_code("01010010")]
    assert max(table.ranks().values()) == 3969


def test_path_and_environment_name_the_file_or_its_folder(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DATA, raising=False)
    best = nasbench_macro_table(file).best
    assert nasbench_macro_table(file.parent).best == best
    for place in (file, file.parent):
        monkeypatch.setenv(DATA, str(place))
        assert nasbench_macro_table().best == best
    with pytest.raises(ValueError, match=f"path must name {FILE} or the folder it lies in"):
        nasbench_macro_table(tmp_path)


def test_a_missing_file_names_both_ways_to_give_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DATA, raising=False)
    with pytest.raises(ValueError, match=r"set NAS_EXT_DATA to .* or pass its path"):
        nasbench_macro_table()
    monkeypatch.setenv(DATA, str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="NAS_EXT_DATA must name"):
        nasbench_macro_table()


def changed(file: Path, **rows: Any) -> str:
    """The text of the file with some rows changed, or left out where None."""
    values = {**json.loads(file.read_text()), **{key[1:]: row for key, row in rows.items()}}
    return json.dumps({key: row for key, row in values.items() if row is not None})


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ({"_00000000": None}, "must have the 6,561 keys 00000000 to 22222222: 6560"),
        ({"_00000003": {}}, "must have the 6,561 keys"),
        ({"_00000001": {**made_up("00000001"), "test_acc": []}}, "must have test_acc, mean_acc"),
        ({"_00000001": {**made_up("00000001"), "flops": "7M"}}, "must have test_acc, mean_acc"),
        ({"_00000001": {**made_up("00000001"), "mean_acc": 41.0}}, "must be the mean of test_acc"),
        (
            {"_22212202": {**made_up("22212202"), "mean_acc": 90.0, "test_acc": [90.0]}},
            "encodings of one network must share its accuracy",
        ),
    ],
)
def test_a_file_of_another_shape_is_refused(
    rows: dict[str, Any], reason: str, file: Path, tmp_path: Path
) -> None:
    (tmp_path / FILE).write_text(changed(file, **rows))
    with pytest.raises(ValueError, match=reason):
        nasbench_macro_table(tmp_path)


def test_the_published_costs_have_the_closed_form(published: Table) -> None:
    # Section 6.7: it matches all 6,561 entries; the ranges are golden number 9.
    assert all(SPACE.params(a) == published.params[a] for a in SPACE)
    assert all(SPACE.macs(a) == published.macs[a] for a in SPACE)
    ends = [(min(c.values()), max(c.values())) for c in (published.params, published.macs)]
    assert ends == [(387_882, 2_932_586), (7_713_280, 105_660_928)]


@pytest.mark.parametrize(
    ("code", "accuracy"),
    # Golden number 9 and section 6.7, to four decimals.
    [("22212220", 93.1267), ("22212202", 93.1267), ("22222221", 93.1067), ("22211222", 93.0800),
     ("22222200", 93.0800), ("00000000", 45.3633), ("22222222", 92.9533), ("11111111", 91.9300)],
)  # fmt: skip
def test_the_published_accuracies_are_read(code: str, accuracy: float, published: Table) -> None:
    assert percent(published, code) == pytest.approx(accuracy, abs=5.1e-5)


def test_the_seeds_of_the_best_network_are_kept(published: Table) -> None:
    # Section 6.7.
    seeds = [100 * share for share in published.seeds[published.best]]
    assert SPACE.code(published.best) == "22212220"
    assert seeds == pytest.approx([93.28, 93.33, 92.77], abs=5e-3)


@pytest.mark.parametrize(
    ("code", "printed", "rank"),
    # Section 6.7: accuracy and rank as printed in Tables 3.3 and I-2, rounded or cut; among the
    # 3,969, ties share the lowest rank. 21211220 ties with two more on 69 to 71; Table I-2 prints
    # 71.
    [("22212220", 93.13, 1), ("22221210", 92.74, 80), ("21222220", 92.79, 56),
     ("22110222", 92.56, 209), ("22222022", 92.71, 98), ("22221200", 92.86, 34),
     ("21211220", 92.76, 69), ("12212200", 92.76, 69), ("22222111", 92.76, 69),
     ("22222221", 93.11, 2), ("22211222", 93.08, 3), ("22222200", 93.08, 3),
     ("00000000", 45.36, 3969)],
)  # fmt: skip
def test_ranks_are_the_published_ones(
    code: str, printed: float, rank: int, published: Table
) -> None:
    assert percent(published, code) == pytest.approx(printed, abs=0.011)
    assert published.ranks()[SPACE.from_code(code)] == rank


def test_every_published_rank_is_one_that_some_network_has(published: Table) -> None:
    # Table 3.3 and Table I-2, whose architectures are not all named.
    ranks = set(published.ranks().values())
    assert {406, 347, 80, 56, 21, 1, 85, 61, 227, 209, 98, 19, 34} <= ranks


def test_the_published_moments_and_correlations_follow(published: Table) -> None:
    # Golden number 10.
    every = 100 * np.asarray([published.accuracies[a] for a in SPACE])
    distinct = 100 * np.asarray([published.accuracies[a] for a in published.networks])
    assert every.mean() == pytest.approx(90.2466, abs=5e-5)
    assert every.std() == pytest.approx(2.6825, abs=5e-4)
    assert distinct.mean() == pytest.approx(90.2854, abs=5e-5)
    assert ((distinct >= 93).sum(), (distinct >= 92).sum()) == (10, 873)
    for costs, taus in ((published.macs, (0.5560, 0.5461)), (published.params, (0.2176, 0.2155))):
        found = [
            kendalltau([costs[a] for a in of], [published.accuracies[a] for a in of]).statistic
            for of in (tuple(SPACE), published.networks)
        ]
        assert found == pytest.approx(taus, abs=5e-5)


def test_two_trainings_agree_no_better_than_published(published: Table) -> None:
    # Golden number 10: .880, .878 and .879, and the mean deviation of an architecture .151.
    seeds = np.asarray([published.seeds[a] for a in published.networks])
    taus = [kendalltau(seeds[:, i], seeds[:, j]).statistic for i, j in combinations(range(3), 2)]
    assert taus == pytest.approx([0.880, 0.878, 0.879], abs=5e-4)
    mean = np.mean([100 * deviation for deviation in published.deviations.values()])
    assert mean == pytest.approx(0.151, abs=5e-4)
