"""Weights as safetensors: read as the library reads them, and refused when they are not whole."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sweeper.errors import StoreError
from sweeper.models.model_file import read_tensors, write_tensors

TENSORS = {
    "blocks.0.w": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "bias": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "ids": torch.tensor([[1, 2**40]]),
    "none": torch.empty(0, 4),
    "scalar": torch.tensor(3.0, dtype=torch.float64),
}


def test_tensors_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a.safetensors", TENSORS)
    tensors, sha256 = read_tensors(tmp_path / "a.safetensors")
    assert set(tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    write_tensors(tmp_path / "b.safetensors", dict(reversed(TENSORS.items())))
    assert read_tensors(tmp_path / "b.safetensors")[1] == sha256


@pytest.mark.skipif(not importlib.util.find_spec("safetensors"), reason="optional library")
def test_the_safetensors_library_reads_what_we_write_and_we_what_it_writes(tmp_path: Path) -> None:
    library: Any = importlib.import_module("safetensors.torch")
    write_tensors(tmp_path / "ours", TENSORS)
    theirs = library.load_file(tmp_path / "ours")
    assert all(torch.equal(theirs[name], tensor) for name, tensor in TENSORS.items())
    library.save_file(TENSORS, tmp_path / "theirs", metadata={"format": "pt"})
    ours, _ = read_tensors(tmp_path / "theirs")
    assert all(torch.equal(ours[name], tensor) for name, tensor in TENSORS.items())


def with_header(header: object, n_data_bytes: int = 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(n_data_bytes)


def tensor(start: int, stop: int, shape: object = None, dtype: object = "F32") -> dict[str, object]:
    n_numbers = (stop - start) // 4
    return {
        "dtype": dtype,
        "shape": [n_numbers] if shape is None else shape,
        "data_offsets": [start, stop],
    }


BROKEN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "0 bytes"),
    "a length alone": (bytes(8), "gives its header 0"),
    "a huge header": ((2**60).to_bytes(8, "little") + b"{}", "gives its header 1,152,9"),
    "a header longer than the file": ((50).to_bytes(8, "little") + b"{}", "gives its header 50"),
    "no JSON": (with_header(b"\x80\x04pickle"), "no JSON object"),
    "a list": (with_header([1]), "no JSON object"),
    "deep nesting": (with_header(b"[" * 100_000), "no JSON object"),
    "a name twice": (
        with_header(b'{"a":' + json.dumps(tensor(0, 8)).encode() + b',"a":1}'),
        "occurs twice",
    ),
    "an unknown type": (with_header({"a": tensor(0, 8, dtype="O")}), "dtype 'O'"),
    "a type that is a list": (with_header({"a": tensor(0, 8, dtype=["F32"])}), "dtype ['F32']"),
    "a negative size": (with_header({"a": tensor(0, 8, [-1, -2])}), "shape [-1, -2]"),
    "a size that is true": (with_header({"a": tensor(0, 4, [True])}, 4), "shape [True]"),
    "another shape": (with_header({"a": tensor(0, 8, [3])}), "8 bytes; expected 12"),
    "other keys": (with_header({"a": {"dtype": "F32"}}), "other keys"),
    "an overlap": (with_header({"a": tensor(0, 8), "b": tensor(4, 8)}), "overlap before 'b'"),
    "a gap": (with_header({"a": tensor(4, 8)}), "leave a gap before 'a'"),
    "offsets backwards": (with_header({"a": tensor(8, 4, [1])}), "-4 bytes"),
    "too few data": (with_header({"a": tensor(0, 8)}, 7), "7 bytes of data; expected 8"),
    "too many data": (with_header({"a": tensor(0, 8)}, 9), "9 bytes of data; expected 8"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_is_not_whole_is_refused_with_a_sentence(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    data, found = BROKEN[kind]
    path.write_bytes(data)
    with pytest.raises(StoreError) as caught:
        read_tensors(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert found in message
    assert "expected" in message


@pytest.mark.parametrize("cut", [lambda data: data[:-1], lambda data: data[:20]])
def test_a_torn_file_is_refused(cut: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_tensors(path, TENSORS)
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(StoreError, match="not a whole safetensors file"):
        read_tensors(path)
