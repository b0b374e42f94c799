"""Networks that leave the package: timm's folder, ONNX, torch.export's file, JSON."""

from __future__ import annotations

import importlib
import io
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import timm
import torch
from timm.models import save_for_hf
from torch import Tensor, nn

from nas_ext.files import write_bytes
from nas_ext.found import FILE, FoundArchitecture
from nas_ext.spaces.timm_models import timm_name
from nas_ext.spaces.timm_network import TimmNetwork

__all__ = ["FORMATS", "Format", "Images", "export", "export_onnx", "export_timm", "export_torch"]

Format: TypeAlias = Literal["timm", "onnx", "torch", "json"]
FORMATS: tuple[Format, ...] = ("timm", "onnx", "torch", "json")

TOLERANCE = 1e-4
"""The most that logits may differ after an export, as a share of the largest, or of 1."""

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class Images:
    """Say which images a network expects: their size and how they were normalised.

    `size` is (C, H, W). `mean` and `std` are per channel, of pixels in [0, 1]; `classes` are the
    names of the logits. None where nothing was trained.
    """

    size: tuple[int, int, int]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: tuple[str, ...] | None = None


def export(
    network: nn.Module,
    found: FoundArchitecture,
    images: Images,
    out: str | Path,
    *,
    to: Format,
) -> Path:
    """Write a network in one of `FORMATS`, checked against the network itself; return where.

    "timm" makes the folder `out`, the others the file `out`, which for "torch" ends in .pt2.
    Raises ValueError when `out` exists, when packages are missing, and when what was written
    computes something else.
    """
    path = Path(out)
    if to not in FORMATS:
        raise ValueError(f"to must be one of {list(FORMATS)}, got {to!r}")
    if path.exists():
        raise ValueError(f"out must not exist yet, got {path}")
    if to == "torch" and path.suffix != ".pt2":
        raise ValueError(f"out must end in .pt2, by which torch knows it, got {path}")
    if to == "json":
        found.save(path)
    elif to == "timm":
        export_timm(network, found, images, path)
    elif to == "onnx":
        export_onnx(network, path, images, found)
    else:
        export_torch(network, path, images, found)
    return path


def export_timm(
    network: nn.Module, found: FoundArchitecture, images: Images, folder: Path
) -> None:
    """Write timm's own folder, which `timm.create_model("local-dir:" + folder)` reads.

    With `pretrained=True` that gives the weights too; `nas_ext.spaces` must have been imported.
    The weights are safetensors. `arch.json` lies beside. Raises ValueError for a network without
    timm's interface.
    """
    if not isinstance(network, TimmNetwork):
        raise ValueError(f"network must be a classifier for timm, got {type(network).__name__}")
    arguments = {"arch": list(found.architecture), **found.own_arguments}
    model = timm.create_model(
        timm_name(found.space),
        num_classes=network.num_classes,
        in_chans=network.in_chans,
        **arguments,
    )
    model.load_state_dict(network.state_dict())
    data = {"input_size": images.size, "crop_pct": 1.0, "crop_mode": "squash"}
    if images.mean is not None and images.std is not None:
        data |= {"mean": images.mean, "std": images.std}
    labels = {} if images.classes is None else {"label_names": list(images.classes)}
    with _new_folder(folder) as temporary:
        save_for_hf(
            model,
            str(temporary),
            model_config=labels,
            model_args=arguments,
            safe_serialization=True,
            data_config=data,
        )
        found.save(temporary / FILE)
        again = timm.create_model(f"local-dir:{temporary}", pretrained=True).eval()
        _check_parity(network, again, images, "timm")


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder that gets its name when all went well, and is removed otherwise."""
    temporary = folder.parent / f".tmp-{secrets.token_hex(8)}"
    temporary.mkdir(parents=True)  # not mkdtemp, whose folders only the owner may read
    try:
        yield temporary
        for file in list(temporary.iterdir()):
            write_bytes(file, file.read_bytes())  # nor may others read safetensors' files
        os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary)
        raise


def export_torch(
    network: nn.Module, path: Path, images: Images, found: FoundArchitecture | None = None
) -> None:
    """Write `torch.export`'s file for batches of any size; `torch.export.load` reads it.

    The architecture and what the images are lie in it as the extra file `nas_ext.json`.
    """
    with _evaluated(network):
        program = torch.export.export(network, (_images(images, 2),), dynamic_shapes=_any_batch())
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={"nas_ext.json": _about(found, images)})
        buffer.seek(0)
        again = torch.export.load(buffer).module()
        _check_parity(network, again, images, "torch.export")
    write_bytes(path, buffer.getvalue())


def export_onnx(
    network: nn.Module, path: Path, images: Images, found: FoundArchitecture | None = None
) -> None:
    """Write an ONNX file for batches of any size, its input "images" and its output "logits".

    onnxruntime runs it beside the network. The architecture and what the images are lie in it as
    the metadata `nas_ext`. Raises ValueError where a package of the extra `onnx` is missing.
    """
    runtime = _onnxruntime()
    with _evaluated(network), tempfile.TemporaryDirectory() as folder:
        program = torch.onnx.export(
            network,
            (_images(images, 2),),
            dynamo=True,
            dynamic_shapes=_any_batch(),
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
        if program is None:
            raise RuntimeError("torch.onnx.export returned no program")
        program.model.metadata_props["nas_ext"] = _about(found, images)
        file = Path(folder) / "model.onnx"
        program.save(file, external_data=False)
        content = file.read_bytes()
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])

        def run(x: Tensor) -> Tensor:
            return torch.from_numpy(session.run(["logits"], {"images": x.numpy()})[0])

        _check_parity(network, run, images, "ONNX")
    write_bytes(path, content)


def _onnxruntime() -> Any:
    missing = []
    for name in ONNX_PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise ValueError(
            f"ONNX needs {', '.join(missing)}: install them with pip install 'nas-ext[onnx]'"
        )
    return importlib.import_module("onnxruntime")


def _any_batch() -> tuple[dict[int, Any]]:
    return ({0: torch.export.Dim("batch", min=1)},)


def _about(found: FoundArchitecture | None, images: Images) -> str:
    arch: Mapping[str, Any] | None = None if found is None else found.to_json()
    return json.dumps({"architecture": arch, "images": asdict(images)})


def _images(images: Images, count: int) -> Tensor:
    """Return normalised noise that moves no global generator."""
    return torch.randn(count, *images.size, generator=torch.Generator().manual_seed(count))


@contextmanager
def _evaluated(network: nn.Module) -> Iterator[None]:
    """Set eval mode without gradients, on the CPU; put the modes back."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _check_parity(
    network: nn.Module, exported: Callable[[Tensor], Tensor], images: Images, how: str
) -> None:
    """Raise ValueError when the two differ on batches of one and of three images."""
    with _evaluated(network):
        for count in (1, 3):
            x = _images(images, count)
            expected, got = network(x), exported(x)
            scale = max(1.0, float(expected.abs().max()))
            difference = float((expected - got).abs().max()) / scale
            if not difference <= TOLERANCE:  # NaN too
                raise ValueError(
                    f"{how} must give the network's logits within {TOLERANCE:g}, "
                    f"they differ by {difference:g}"
                )
