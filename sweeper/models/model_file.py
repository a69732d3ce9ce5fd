"""A model folder: weights in safetensors, and the config that says what they are.

model.safetensors   weights as they are evaluated: averaged, if the trial averages them
config.json         see `config.py`; written last, so that a model with it is whole
tokenizer.json      where the corpus has one
README.md           a model card, in exported models
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from sweeper.errors import StoreError
from sweeper.models.config import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE, ModelConfig
from sweeper.models.weights_file import TensorEntry, header_of, read_header
from sweeper.store import files
from sweeper.store.storage import StoragePath

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "U8": torch.uint8,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_tensors(path: StoragePath, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as a safetensors file, whole or not at all."""

    def write(temporary: Path) -> None:
        with temporary.open("xb") as file:
            for part in _parts(tensors):
                file.write(part)

    files.replace_with(path, write)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a safetensors file, on the CPU, and the sha-256 of the file.

    Raises StoreError for a file that is absent, torn or foreign.
    """
    try:
        with path.open("rb") as file:
            entries = read_header(file, path)
            n_before = file.tell()
            file.seek(0)
            digest = hashlib.sha256(file.read(n_before))
            tensors = {}
            for entry in entries:
                data = bytearray(file.read(entry.n_bytes))
                digest.update(data)
                tensors[entry.name] = _tensor(entry, data)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be read ({error.strerror or error}); expected the weights of a model"
        ) from error
    return tensors, digest.hexdigest()


def write_model(
    parent: StoragePath,
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    tokenizer_json: bytes | None,
) -> StoragePath:
    """Write a model into a folder below `parent` that its step and its weights name.

    Digest and size in `config` are filled in. Writing the same model again changes nothing.
    """
    digest, n_bytes = hashlib.sha256(), 0
    for part in _parts(weights):
        digest.update(part)
        n_bytes += len(part)
    sha256 = digest.hexdigest()
    config = dataclasses.replace(config, weights_sha256=sha256, weights_bytes=n_bytes)
    # By contents: another attempt that ends in other bits must not replace weights whose bound may
    # be published, and one that ends in the same bits leaves the same files.
    folder = parent / f"step-{config.step:08}-{sha256[:12]}"
    write_tensors(folder / WEIGHTS_FILE, weights)
    if tokenizer_json is not None:
        files.replace(folder / TOKENIZER_FILE, tokenizer_json)
    files.replace(folder / CONFIG_FILE, config.encoded())
    return folder


def _parts(tensors: Mapping[str, Tensor]) -> Iterator[bytes | bytearray]:
    """The bytes of a safetensors file, one tensor at a time."""
    named = sorted(tensors.items())
    yield header_of(tuple(TensorEntry(n, _NAMES[t.dtype], tuple(t.shape)) for n, t in named))
    for _, tensor in named:
        data = bytearray(tensor.numel() * tensor.element_size())
        if data:  # torch reads no empty buffer
            torch.frombuffer(data, dtype=tensor.dtype).copy_(tensor.detach().flatten())
        yield data


def _tensor(entry: TensorEntry, data: bytearray) -> Tensor:
    if not data:
        return torch.empty(entry.shape, dtype=DTYPES[entry.dtype])
    return torch.frombuffer(data, dtype=DTYPES[entry.dtype]).reshape(entry.shape)
