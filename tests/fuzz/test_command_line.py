"""Any arguments of any command: exit code 0 or 2, one line of reason, never a stack trace."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from nas_ext.cli import app

DEPTH = int(os.environ.get("NAS_EXT_FUZZ", "1"))

GROUP: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = dict(GROUP.commands)

# What makes each command end early and without work: the images, the run or the space are none.
NOTHING: dict[str, list[str]] = {
    "search": ["--data", "no-such-images"],
    "compare": ["--data", "no-such-images"],
    "ground-truth": ["no-such-space"],
    "bench": ["no-such-table"],
    "demo": [],
    "spaces": ["--json"],
    "strategies": ["--json"],
    "space": ["no-such-space"],
    "latency": ["no-such-run"],
}

HOSTILE = (
    *("", "x", "-1", "0", "1", "1e400", "nan", "inf", "9" * 30, "9" * 5000, "0.5", "true", "a=b"),
    *("=", "a", "seed=-1", "seed=nan", "temperature=[]", "lr=" + "[" * 5000, "../..", "\u202e"),
    *("1:2", "2:1", "1x1", "0x0", "a:b:c", "[bold]", "{}", "--", "-", "é", "widths=[1e9]"),
)


def options(name: str) -> list[str]:
    """Return the options of a command that take a value."""
    return [
        max(parameter.opts, key=len)
        for parameter in COMMANDS[name].params
        if parameter.param_type_name == "option" and not parameter.is_flag
    ]


def check(result: Any, arguments: list[str]) -> None:
    """Refuse any outcome but success and one line that says what is wrong."""
    if not isinstance(result.exception, SystemExit | None):
        raise AssertionError(f"{arguments}: {result.exception!r}") from result.exception
    assert result.exit_code in (0, 2), (arguments, result.output)
    assert "Traceback" not in result.output, arguments
    if result.exit_code == 2 and "Usage:" not in result.output:
        assert len(result.stderr.strip().splitlines()) == 1, (arguments, result.output)


def call(arguments: list[str]) -> Any:
    """Run the command line in this process."""
    result = CliRunner().invoke(app, arguments)
    check(result, arguments)
    return result


def test_no_command_was_forgotten() -> None:
    runs = {
        name
        for name, command in COMMANDS.items()
        if any(p.name == "run" and p.param_type_name == "argument" for p in command.params)
    }
    assert set(NOTHING) <= set(COMMANDS)
    others = set(COMMANDS) - set(NOTHING) - runs
    for name in others:
        call([name, "no-such-folder"])


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_hostile_value_of_any_option_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    rng = random.Random(name)
    known = options(name)
    base = NOTHING.get(name, [str(tmp_path / "no-such-run")])
    for option in known:
        for value in rng.sample(HOSTILE, min(len(HOSTILE), 2 * DEPTH)):
            arguments = [name, *base]
            if "--out" in known and option != "--out":
                arguments += ["--out", str(blocked / "below a file")]
            if name == "demo" and option == "--out":
                continue  # any folder will do, and it would run
            if name == "compare" and option == "--data":
                value = "no-such-images"
            if name == "search" and option == "--out" and value == "":
                value = "x"
            call([*arguments, option, value])


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_any_words_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    rng = random.Random(f"words of {name}")
    for _ in range(2 * DEPTH):
        words = [rng.choice(HOSTILE) for _ in range(rng.randrange(1, 4))]
        call([name, *(f"{tmp_path}/{word}" if "/" not in word else word for word in words), "--x"])


def damaged(values: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return a result with one to three values of another kind, anywhere in it."""
    copied: dict[str, Any] = json.loads(json.dumps(values))
    for _ in range(rng.randrange(1, 4)):
        owner: Any = copied
        key: Any = rng.choice(["space", "ranking", "data", "settings", "draws", "phases", "tree"])
        while isinstance(owner[key], dict | list) and owner[key] and rng.random() < 0.85:
            owner = owner[key]
            key = rng.choice([*owner]) if isinstance(owner, dict) else rng.randrange(len(owner))
        owner[key] = rng.choice([None, -1, 0, 1, 10**12, 1.5, "x", [], {}, [0], True, {"a": 1}])
    return copied


@pytest.mark.parametrize(
    "words",
    [
        ["tree", "RUN", "--format", "json"],
        ["tree", "RUN", "--why", "[2,5,1]"],
        ["select", "RUN", "--front"],
        ["export", "RUN", "--format", "json", "--weights", "none", "--out", "OUT"],
        ["report", "RUN"],
        ["select", "RUN", "--method", "random", "--budget", "2"],
        ["fit", "RUN", "--epochs", "1", "--seeds", "1", "--set", "batch_size=1024"],
        ["latency", "RUN", "--repeats", "1", "--warm-up", "0"],
    ],
    ids=" ".join,
)
def test_a_damaged_run_is_refused_in_one_line(words: list[str], run: Path, tmp_path: Path) -> None:
    rng = random.Random(" ".join(words))
    values = json.loads((run / "search.json").read_bytes())
    heavy = words[0] in ("report", "fit", "latency") or "--method" in words
    for number in range((3 if heavy else 8) * DEPTH):
        folder, out = tmp_path / f"run{number}", tmp_path / f"out{number}"
        folder.mkdir()
        for kept in ("supernet.safetensors",):
            shutil.copy(run / kept, folder)
        text = json.dumps(damaged(values, rng))
        (folder / "search.json").write_text(text)
        names = {"RUN": str(folder), "OUT": str(out)}
        call([names.get(word, word) for word in words])
