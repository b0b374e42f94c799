"""Real files of every kind that we read, and ways to damage them."""

from __future__ import annotations

import copy
import functools
import io
import json
import os
import pickle
import random
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SEED = os.environ.get("NAS_EXT_FUZZ_SEED", "")
"""Any text: other inputs than the usual ones."""

DEPTH = int(os.environ.get("NAS_EXT_FUZZ", "1"))
"""How many times the usual number of inputs is tried; `make drills` takes 10."""

SECONDS = 60
"""After which a reader counts as hanging."""

MORE_MEMORY = 4 * 1024**3
"""Bytes of address space that a reader may take beyond what the process has."""

HOSTILE: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 0.5, -0.5, 1e300, -1e300, 10**12, -(10**12), 10**30),
    *("", "x", "\0", "../../etc/passwd", "nas-ext/search-2", "9" * 400, "\ud800"),
    *([], {}, [[]], [None], {"": None}, [0, 0], {"name": "x"}, [1] * 40),
]


class Bomb:
    """Leave a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.mark),)


@contextmanager
def guarded() -> Iterator[None]:
    """Raise TimeoutError for what hangs, and MemoryError for what takes gigabytes."""

    def late(number: int, frame: Any) -> None:
        raise TimeoutError(f"still reading after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path("/proc/self/statm")
    if statm.exists():
        taken = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MORE_MEMORY, hard))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def byte_mutations(content: bytes, rng: random.Random, count: int) -> Iterator[bytes]:
    """Yield truncated, flipped, stretched and foreign contents."""
    yield b""
    yield b"\0" * 64
    yield content + b"}"
    yield content * 2
    yield b"\xff\xfe" + content
    yield content.replace(b"1", b"-9" * 30)
    for _ in range(count):
        yield content[: rng.randrange(len(content))]
    for _ in range(count):
        changed = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 8))):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        yield bytes(changed)
    for _ in range(count // 2):
        start = rng.randrange(len(content))
        end = min(len(content), start + rng.randrange(1, 64))
        yield content[:start] + content[end:]
        yield content[:end] + content[start:]


def paths(value: Any, most: int = 3) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every value of a JSON document, of long lists first, second and last."""
    yield ()
    if isinstance(value, dict):
        steps: list[Any] = list(value)
        if len(steps) > 60:
            steps = [*steps[:3], steps[-1]]
    elif isinstance(value, list):
        places = range(len(value))
        steps = sorted({*places[: most - 1], *places[-1:]})
    else:
        return
    for step in steps:
        yield from ((step, *rest) for rest in paths(value[step], most))


def replaced(document: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """Return a copy of a document with the owner of one value changed."""
    copied = json.loads(json.dumps({"": document}))
    owner, key = copied, ""
    for step in path:
        owner, key = owner[key], step
    change(owner, key)
    return copied.get("")


def json_mutations(content: bytes, rng: random.Random, count: int) -> Iterator[bytes]:
    """Yield whole JSON documents with one wrong value, field or length each, and odd syntax."""
    document = json.loads(content)
    yield b"[" * 100_000
    yield b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    yield b"[" + b"9" * 5_000 + b"]"
    yield content.replace(b": 0", b": NaN", 1)
    yield content.replace(b": 1", b": Infinity", 1)
    yield content.replace(b'"format"', b'"format": 1, "format"', 1)
    ways = list(paths(document))
    made: list[bytes] = []
    for path in ways:
        for value in rng.sample(HOSTILE, 3):
            made.append(_put(document, path, value))
        if path:
            made.append(_dump(replaced(document, path, lambda o, k: o.pop(k))))
            made.append(_dump(replaced(document, path, _twice)))
    rng.shuffle(made)
    yield from made[: 6 * count]
    for _ in range(count):
        nested: Any = rng.choice(HOSTILE)
        for _ in range(rng.randrange(1, 300)):
            nested = [nested] if rng.random() < 0.5 else {"format": nested}
        yield _put(document, rng.choice(ways), nested)


def _put(document: Any, path: tuple[Any, ...], value: Any) -> bytes:
    return _dump(replaced(document, path, lambda o, k: o.__setitem__(k, value)))


def _twice(owner: Any, key: Any) -> None:
    if isinstance(owner, list):
        owner.append(owner[key])
    elif isinstance(owner[key], list):
        owner[key] = owner[key] * 2
    else:
        owner[f"{key}_"] = owner[key]


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def tensor_mutations(content: bytes, rng: random.Random, count: int) -> Iterator[bytes]:
    """Yield whole files of torch's with one wrong value, tensor, field or length each."""
    import torch

    state = torch.load(io.BytesIO(content), weights_only=True)
    ways = list(paths(state))
    others = [*HOSTILE, torch.zeros(2, 3), torch.zeros(0), torch.full((3,), float("nan"))]
    for _ in range(4 * count):
        path, value = rng.choice(ways), rng.choice(others)
        put = functools.partial(_set, value=value)
        yield _saved({} if not path else changed(state, path, put))
        if path:
            yield _saved(changed(state, path, lambda o, k: o.pop(k)))
    yield from (_saved(value) for value in others if "\ud800" not in str(value))


def changed(state: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """Return a copy of what torch loaded with the owner of one value changed."""
    copied = owner = copy.deepcopy(state)
    for step in path[:-1]:
        owner = owner[step]
    change(owner, path[-1])
    return copied


def _set(owner: Any, key: Any, value: Any) -> None:
    owner[key] = (
        "x" if isinstance(value, str) and value == "\ud800" else value
    )  # torch cannot write a lone surrogate


def _saved(value: Any) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def csv_mutations(content: bytes, rng: random.Random, count: int) -> Iterator[bytes]:
    """Yield tables with wrong cells, and with lines that are missing, double and too long."""
    lines = content.decode().splitlines()
    hostile = ("", "nan", "inf", "-1", "1e400", "9" * 400, "x", "0 0 0", '"', "\0", "1_0", "٣")
    for _ in range(4 * count):
        changed = list(lines)
        place = rng.randrange(len(changed))
        cells = changed[place].split(",")
        cells[rng.randrange(len(cells))] = rng.choice(hostile)
        changed[place] = ",".join(cells)
        yield "\n".join(changed).encode()
    for place in (0, 1, len(lines) - 1):
        yield "\n".join([*lines[:place], *lines[place + 1 :]]).encode()
        yield "\n".join([*lines[: place + 1], *lines[place:]]).encode()
        yield "\n".join([*lines[:place], lines[place] + ",1", *lines[place + 1 :]]).encode()
    yield b'"' + b"x" * 200_000


@dataclass(frozen=True)
class Fuzz:
    """Try a reader on damaged copies of a file: each is read, or refused by its name.

    `tried` and `refused` count, over all kinds.
    """

    folder: Path
    counts: dict[str, list[int]]

    def __call__(
        self,
        kind: str,
        content: bytes,
        place: Path,
        read: Callable[[], object],
        *,
        form: str = "bytes",
        count: int = 12,
        named: str | None = None,
    ) -> None:
        """Put every mutation of `content` at `place` and `read`; the place gets it back."""
        rng = random.Random(SEED + kind)
        number = count * DEPTH
        mutations = [*byte_mutations(content, rng, number)]
        if form == "json":
            mutations += json_mutations(content, rng, number)
        if form == "tensors":
            mutations += tensor_mutations(content, rng, number)
        if form == "csv":
            mutations += csv_mutations(content, rng, number)
        mark = self.folder / "executed"
        mutations += [pickle.dumps(Bomb(mark), protocol) for protocol in (0, 2, 4)]
        tally = self.counts.setdefault(kind, [0, 0])
        faults: list[str] = []
        try:
            place.write_bytes(content)
            with guarded():
                read()
            for mutation in mutations:
                place.write_bytes(mutation)
                self._one(read, named or place.name, tally, faults, mutation)
            place.unlink()
            for make in (self._loop, self._folder, self._dangling):
                make(place)
                self._one(read, named or place.name, tally, faults, make.__name__.encode())
                place.rmdir() if place.is_dir() else place.unlink()
        finally:
            place.unlink(missing_ok=True) if not place.is_dir() else place.rmdir()
            place.write_bytes(content)
        assert not mark.exists(), "a file ran code"
        assert not faults, f"{len(faults)} of {tally[0]}:\n" + "\n".join(faults[:12])

    def _one(
        self,
        read: Callable[[], object],
        name: str,
        tally: list[int],
        faults: list[str],
        mutation: bytes,
    ) -> None:
        tally[0] += 1
        try:
            with guarded():
                read()
        except ValueError as error:
            tally[1] += 1
            if name not in str(error):
                faults.append(f"does not name {name}: {str(error)[:300]} <- {mutation[:200]!r}")
        except Exception as error:
            faults.append(f"{type(error).__name__}: {str(error)[:300]} <- {mutation[:300]!r}")

    @staticmethod
    def _loop(place: Path) -> None:
        place.symlink_to(place)

    @staticmethod
    def _folder(place: Path) -> None:
        place.mkdir()

    @staticmethod
    def _dangling(place: Path) -> None:
        place.symlink_to(place.parent / "nowhere")


@pytest.fixture(scope="session")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzz]:
    """The fuzzer; at the end it prints how many inputs it tried."""
    made = Fuzz(tmp_path_factory.mktemp("fuzz"), {})
    yield made
    tried = sum(tally[0] for tally in made.counts.values())
    refused = sum(tally[1] for tally in made.counts.values())
    print(f"\nfuzzed: {tried:,} inputs of {len(made.counts)} kinds, {refused:,} refused")
    for kind, tally in made.counts.items():
        print(f"  {kind}: {tally[0]:,} tried, {tally[1]:,} refused")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search on digits, with its tree, weights and one retraining."""
    from nas_ext.data import digits
    from nas_ext.runs import Training, retrain_images, search_images
    from nas_ext.strategies import LearnedTree

    folder = tmp_path_factory.mktemp("runs") / "run"
    data = digits()
    result = search_images(
        LearnedTree(candidates=4),
        "mini-pooling",
        data,
        out=folder,
        training=Training(
            steps=30, batch_size=16, validation_batch_size=64, device="cpu", progress=False
        ),
        data_source={"source": "digits", "seed": 0, "image_size": None},
    )
    retrain_images(
        result,
        result.best,
        data,
        out=folder,
        epochs=1,
        batch_size=512,
        trials=1,
        seeds=1,
        confirm_top=1,
        confirm_seeds=1,
    )
    return folder
