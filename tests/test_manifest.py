"""What a result was made by, and what a manifest must not say."""

from __future__ import annotations

import getpass
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nas_ext.manifest import changes, command, git_state, manifest

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    run = subprocess.run(
        ["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code.py").write_text("one = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


def test_a_manifest_is_plain_json_and_says_what_a_result_depends_on() -> None:
    made = manifest(seeds=range(3), data="abc", made_with={"training": {"steps": 5}})
    assert json.loads(json.dumps(made)) == made
    assert made["seeds"] == [0, 1, 2]
    assert made["data"] == "abc"
    assert made["versions"]["python"] == platform.python_version()
    assert made["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert made["threads"] == torch.get_num_threads()
    assert made["made_with"] == {"training": {"steps": 5}}
    assert manifest(seeds=[], data=None, threads=7)["threads"] == 7


def test_a_manifest_names_no_user_machine_home_or_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NAS_EXT_SECRET", "5f2c61e0-in-the-environment")
    monkeypatch.setattr(sys, "argv", [str(Path.home() / "bin" / "script.py"), "--key", "private"])
    text = json.dumps(manifest(seeds=[0], data=None))
    names = [socket.gethostname(), str(Path.home()), "5f2c61e0", "private", "script.py"]
    if getpass.getuser() not in ("root", "user", "runner"):  # words that other things have too
        names.append(getpass.getuser())
    assert [name for name in names if name in text] == []


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["/home/me/.venv/bin/nas-ext", "search", "--out", "runs/x"], ["nas-ext", "search"]),
        (["C:\\me\\Scripts\\nas-ext.exe", "search"], None),
        (["/x/nas_ext/__main__.py", "bench"], ["python", "-m", "nas_ext", "bench"]),
        (["/home/me/train.py", "--fast"], ["python"]),
        (["-c"], ["python"]),
        ([], ["python"]),
    ],
)
def test_the_command_is_what_was_typed_after_the_name_of_the_program(
    typed: list[str], said: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if said is None:  # a path of another system is a name here
        said = ["nas-ext", "search"] if os.name == "nt" else ["python"]
    monkeypatch.setattr(sys, "argv", typed)
    assert command()[: len(said)] == said
    assert (command() == ["python"]) == (said == ["python"])


def test_the_password_of_a_database_is_not_part_of_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = "postgresql+psycopg://me:secret@host/studies"
    monkeypatch.setattr(sys, "argv", ["nas-ext", "retrain", "runs/x", "--storage", url])
    assert command()[-1] == "postgresql+psycopg://***@host/studies"
    assert "secret" not in json.dumps(manifest(seeds=[0], data=None))


@needs_git
def test_the_commit_is_named_and_a_changed_tracked_file_makes_it_dirty(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert git_state(repository) == {"commit": commit, "dirty": False}
    (repository / "new.txt").write_text("not tracked, such as a run's own folder\n")
    assert git_state(repository) == {"commit": commit, "dirty": False}
    (repository / "code.py").write_text("one = 2\n")
    assert git_state(repository) == {"commit": commit, "dirty": True}


@needs_git
def test_no_repository_and_one_without_a_commit_have_no_state(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert git_state(tmp_path / "plain") is None
    (tmp_path / "empty").mkdir()
    git(tmp_path / "empty", "init", "--quiet")
    assert git_state(tmp_path / "empty") is None
    assert git_state(tmp_path / "missing") is None


@needs_git
def test_a_program_that_a_repository_names_is_not_run(repository: Path) -> None:
    hook = repository / "hook.sh"
    hook.write_text(f"#!/bin/sh\ntouch {repository / 'was-run'}\n")
    hook.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(hook))
    state = git_state(repository)
    assert state is not None
    assert state["dirty"] is False
    assert not (repository / "was-run").exists()
    git(repository, "status")  # the control: git itself would have run it
    assert (repository / "was-run").exists()


def test_without_git_there_is_no_state_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_state() is None
    assert manifest(seeds=[0], data=None)["git"] is None


def test_changes_name_versions_and_the_machine_and_nothing_else() -> None:
    now = manifest(seeds=[0], data="a")
    assert changes(now, now) == []
    assert changes({**now, "seeds": [9], "data": "b", "command": ["other"]}, now) == []
    older = {**now, "versions": {**now["versions"], "torch": "1.0"}, "cpu": "DEFAULT"}
    torch_line, cpu_line = changes(older, now)
    assert torch_line == f"torch: 1.0, now {now['versions']['torch']}"
    assert cpu_line == f"cpu: DEFAULT, now {now['cpu']}"
    assert changes({"versions": None, "cpu": None}, now) == []
