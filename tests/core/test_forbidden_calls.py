"""Nothing that we ship runs what a file says, asks a shell, or writes a file half."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("nas_ext", "spaces", "strategies", "examples", "perf")
    for path in (ROOT / folder).rglob("*.py")
    if not {"spaces", "strategies"} & set(path.relative_to(ROOT).parts[1:])  # the links
)

ALLOWED = {
    # Results of our own processes, through a folder that only this account can read.
    ("nas_ext/retrain/processes.py", "pickle.loads"),
    ("nas_ext/retrain/processes.py", "write_bytes"),
    # A loader that is a SafeLoader with one more number.
    ("nas_ext/retrain/ranges.py", "yaml.load"),
    # The one place that writes, and the log that grows by whole lines.
    ("nas_ext/files.py", "open for writing"),
    ("nas_ext/retrain/journal.py", "open for writing"),
    # To memory, and from there through nas_ext.files.
    ("nas_ext/plots/drawing.py", "savefig"),
    ("nas_ext/oneshot/resuming.py", "torch.save"),
    ("nas_ext/retrain/checkpoint.py", "torch.save"),
    # To a temporary folder that gets its name when it is whole.
    ("nas_ext/export.py", "save_for_hf"),
    ("nas_ext/retrain/card.py", "save_for_hf"),
    # A note that NNI's own first import is done; half of it counts as none.
    ("nas_ext/first_import.py", "write_text"),
    # Numbers of speed scripts, which run again: nothing is lost.
    ("perf/_common.py", "write_text"),
    ("perf/training_step.py", "open for writing"),
}

FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "execfile"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads"),
    *("marshal.load", "marshal.loads", "shelve.open", "dill.load", "dill.loads", "joblib.load"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle"),
    *("torch.save", "np.save", "np.savez", "numpy.save", "numpy.savez", "json.dump"),
    *("urllib.request.urlretrieve", "urlretrieve", "tempfile.mktemp"),
}
FORBIDDEN_METHODS = {
    *("extractall", "unpack_archive", "savefig", "to_csv", "to_json", "to_pickle", "write_text"),
    *("write_bytes", "save_for_hf", "set_trace"),
}
OUR_OWN = {"to_json"}  # results as JSON values, of ours


def dotted(node: ast.expr) -> str:
    """Return "a.b.c" of a name or attribute, "" of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before or '?'}.{node.attr}"
    return ""


def constant(call: ast.Call, name: str) -> object:
    """Return a keyword's constant value, "missing" where it is not given, "other" otherwise."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value.value if isinstance(keyword.value, ast.Constant) else "other"
    return "missing"


def opened_for_writing(call: ast.Call, name: str) -> bool:
    """Say whether `open` gets a mode that writes, or one that cannot be read here."""
    if name != "open" and not name.endswith(".open"):
        return False
    place = 1 if name == "open" else 0
    mode: object = constant(call, "mode")
    if mode == "missing" and len(call.args) > place:
        given = call.args[place]
        mode = given.value if isinstance(given, ast.Constant) else "other"
    return isinstance(mode, str) and mode != "missing" and bool(set("wax+") & set(mode))


def faults(source: str) -> Iterator[tuple[str, int]]:
    """Yield what is forbidden in a text of Python, with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if "http://" in node.value:
                yield "http://", node.lineno
            continue
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        method = name.rpartition(".")[2]
        if name in FORBIDDEN_CALLS:
            yield name, node.lineno
        elif isinstance(node.func, ast.Attribute) and method in FORBIDDEN_METHODS - OUR_OWN:
            yield method, node.lineno
        elif name == "save_for_hf":
            yield name, node.lineno
        if name == "torch.load" and constant(node, "weights_only") is not True:
            yield "torch.load without weights_only=True", node.lineno
        if constant(node, "allow_pickle") not in ("missing", False):
            yield "allow_pickle", node.lineno
        if constant(node, "shell") not in ("missing", False):
            yield "shell", node.lineno
        if constant(node, "weights_only") is False:
            yield "weights_only=False", node.lineno
        if opened_for_writing(node, name):
            yield "open for writing", node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_calls_nothing_forbidden(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    found = [
        f"{name}:{line}: {what}"
        for what, line in faults(path.read_text(encoding="utf-8"))
        if (name, what) not in ALLOWED
    ]
    assert found == []


def test_every_exception_is_still_needed() -> None:
    used = {
        (path.relative_to(ROOT).as_posix(), what)
        for path in SOURCES
        for what, _ in faults(path.read_text(encoding="utf-8"))
    }
    assert used >= ALLOWED


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "pickle.loads(content)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "os.system(command)",
        "subprocess.run(command, shell=True)",
        "tarfile.open(path).extractall(folder)",
        "open(path, 'w')",
        "path.open('ab')",
        "(folder / name).write_bytes(content)",
        "open(path, mode='x')",
        "Path(path).write_text(text)",
        "figure.savefig(path)",
        "url = 'http://example.org'",
    ],
)
def test_the_scan_finds_what_it_is_for(source: str) -> None:
    assert list(faults(source))


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(file, weights_only=True)",
        "np.load(path, allow_pickle=False)",
        "open(path)",
        "open(path, 'rb')",
        "write_text(path, text)",
        "subprocess.run(command)",
        "model.eval()",
        "url = 'https://example.org'",
    ],
)
def test_the_scan_leaves_alone_what_is_right(source: str) -> None:
    assert list(faults(source)) == []
