"""Layer files: what is read is what is there, what is written is whole, and faults are named."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import DTypeLike, NDArray

from waterlevel.backends import get
from waterlevel.reference.errors import BadInput
from waterlevel.reference.operations.numpy_operations import NUMPY
from waterlevel.validate.layers import layer_files
from waterlevel.validate.layers.layer_files import (
    TENSORS,
    check_target,
    covariance_of,
    read_layer,
    sha256,
    to_json,
    write_tensors,
)

from ...helpers import command, scalar
from ...helpers.inputs import bell, lower, same_bits


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "layer.safetensors"


def raw_tensors(path: Path) -> dict[str, bytes]:
    """The bytes of each tensor, by the description of the format alone."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    data = content[8 + length :]
    return {name: data[slice(*entry["data_offsets"])] for name, entry in header.items()}


def write_by_hand(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


# Reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_tensors_are_read_as_they_are(path: Path, dtype: DTypeLike):
    given = {
        name: bell(
            key, (3,) if name in ("covariance_factor", "eigenvalues") else (2, 2), "f8"
        ).astype(dtype)
        for key, name in enumerate(TENSORS)
        if name != "covariance"
    }
    safetensors.numpy.save_file(given, path)
    layer = read_layer(path)
    for name, tensor in given.items():
        same_bits(getattr(layer, name), tensor)
    assert layer.covariance is None


def test_every_bfloat16_is_read_exactly(path: Path):
    patterns = np.arange(2**16, dtype="<u2")
    W = ("BF16", [256, 256], patterns.tobytes())
    write_by_hand(path, {"covariance": ("F64", [1, 1], bytes(8)), "weight": W})
    layer = read_layer(path)
    same_bits(layer.weight, patterns.view(ml_dtypes.bfloat16).astype(np.float32).reshape(256, 256))
    finite = np.isfinite(layer.weight)
    assert np.count_nonzero(finite) == 2 * 255 * 128
    assert np.array_equal(
        (layer.weight.view(np.uint32) & 0xFFFF)[finite], np.zeros(2 * 255 * 128, np.uint32)
    )


def test_bfloat16_needs_no_other_package(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    halves = np.array([0x3F80, 0xC040], "<u2")  # 1 and -3
    W = ("BF16", [1, 2], halves.tobytes())
    write_by_hand(path, {"weight": W, "covariance": ("F64", [2, 2], np.eye(2).tobytes())})
    assert read_layer(path).weight.tolist() == [[1.0, -3.0]]


def test_digests_are_those_of_the_bytes_in_the_file(path: Path):
    halves = bell(1, (2, 2), np.float32).astype(ml_dtypes.bfloat16)
    safetensors.numpy.save_file(
        {"weight": halves, "covariance": np.eye(2, dtype=np.float16), "eigenvalues": np.ones(2)},
        path,
    )
    expected = {n: hashlib.sha256(raw).hexdigest() for n, raw in raw_tensors(path).items()}
    assert read_layer(path).digests == expected
    assert len(expected) == 3


def test_a_description_is_handed_on(path: Path):
    tensors = command.tensors()
    for metadata in (None, {"other": "x"}, {"waterlevel": '{"type": "attention"}'}):
        safetensors.numpy.save_file(tensors, path, metadata=metadata)
        expected = {"type": "attention"} if metadata and "waterlevel" in metadata else {}
        assert read_layer(path).description == expected


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", [1, 2, 9])
def test_covariance_from_its_factor(path: Path, n: int, dtype: str):
    factor = lower(1, n, np.float32)
    packed = np.concatenate([factor[i, : i + 1] for i in range(n)])
    command.write(path, weight=np.ones((3, n)), covariance=None, covariance_factor=packed)
    F = scalar.lists(factor, scalar.FLOATING[np.dtype(dtype)])
    product = scalar.matmul(F, scalar.transpose(F), scalar.FLOATING[np.dtype(dtype)])
    found = covariance_of(read_layer(path), NUMPY, dtype)
    same_bits(found, scalar.array(product, dtype))


def test_covariance_itself_is_not_touched(path: Path):
    layer = read_layer(command.write(path))
    assert covariance_of(layer, get("numpy"), "float32") is layer.covariance


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "misspelt": ({"covarience": np.eye(16), "covariance": None}, "'covarience'.*mean covariance"),
    "extra": ({"bias": np.ones(48)}, "'bias' is not known; .*cross_covariance"),
    "weight missing": ({"weight": None}, "weight is missing"),
    "covariance missing": ({"covariance": None}, "covariance is missing.*covariance_factor"),
    "both": ({"covariance_factor": np.ones(136)}, "covariance and covariance_factor are both"),
    "integers": ({"weight": np.ones((48, 16), np.int64)}, "weight has dtype I64.*bfloat16"),
    "booleans": ({"eigenvalues": np.ones(16, bool)}, "eigenvalues has dtype BOOL"),
}


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS)
def test_faults_of_a_file_are_named(path: Path, change: dict[str, Any], message: str):
    command.write(path, **change)
    with pytest.raises(BadInput, match=message) as caught:
        read_layer(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (np.ones(135), "shape 135, expected 136"),
        (np.ones((16, 16)), "shape 16×16, expected 136"),
        (np.full(136, np.nan), r"covariance_factor\[0\] is nan"),
        (np.where(np.arange(136) == 7, np.inf, 1.0), r"covariance_factor\[7\] is inf"),
    ],
)
def test_faults_of_a_factor_are_named(path: Path, factor: NDArray, message: str):
    command.write(path, covariance=None, covariance_factor=factor)
    with pytest.raises(BadInput, match=message):
        covariance_of(read_layer(path), NUMPY, "float64")


def test_a_description_that_is_no_object_is_refused(path: Path):
    for text in ("{", "[]", "1"):
        safetensors.numpy.save_file(command.tensors(), path, metadata={"waterlevel": text})
        with pytest.raises(BadInput, match="metadata under 'waterlevel'"):
            read_layer(path)


def test_every_truncation_is_noticed(path: Path):
    content = command.write(path, weight=np.ones((1, 1)), covariance=np.ones((1, 1))).read_bytes()
    read_layer(path)
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(BadInput, match="not a whole safetensors file"):
            read_layer(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        read_layer(path)


def test_a_damaged_header_is_refused_or_harmless(path: Path):
    content = command.write(path, weight=np.ones((1, 1)), covariance=np.ones((1, 1))).read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    refused = 0
    for place in range(8 + length):
        for flip in (0x01, 0x20, 0x80):
            damaged = bytearray(content)
            damaged[place] ^= flip
            path.write_bytes(damaged)
            try:
                read_layer(path)
            except BadInput:
                refused += 1
    assert refused > 8 + length


def test_what_is_no_file_is_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        read_layer(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        read_layer(tmp_path)
    with pytest.raises(BadInput, match="not a regular file"):
        read_layer(os.devnull)


# Writing ------------------------------------------------------------------------------------------


def some() -> dict[str, NDArray]:
    return {"codes": np.arange(6, dtype=np.int32).reshape(2, 3).T, "row_scale": bell(1, (2,), "f8")}


def test_what_was_written_is_read_again(path: Path):
    described = write_tensors(path, some(), {"method": "rtn", "limit": float("nan")})
    found, metadata = command.load(path)
    for name, tensor in some().items():
        same_bits(found[name], tensor)
        raw = raw_tensors(path)[name]
        assert metadata["tensors"][name] == hashlib.sha256(raw).hexdigest() == sha256(tensor)
    assert metadata == {"method": "rtn", "limit": None, "tensors": described["tensors"]}
    assert list(path.parent.iterdir()) == [path]


def test_the_same_content_gives_the_same_bytes(path: Path):
    description = {"b": 1, "a": {"d": 2.5, "c": None}}
    write_tensors(path, some(), description)
    first = path.read_bytes()
    backwards = dict(reversed(some().items()))
    write_tensors(path, backwards, {"a": {"c": None, "d": 2.5}, "b": 1})
    assert path.read_bytes() == first


def test_permissions_are_those_of_any_new_file(path: Path):
    before = os.umask(0o027)
    try:
        write_tensors(path, some(), {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_keeps_pointing(path: Path, tmp_path: Path):
    target = tmp_path / "folder" / "real"
    target.parent.mkdir()
    path.symlink_to(target)
    write_tensors(path, some(), {})
    assert path.is_symlink()
    assert set(command.load(target)[0]) == set(some())


@pytest.mark.parametrize("stage", ["save_file", "replace", "fsync"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there(
    path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, failure: BaseException
):
    path.write_bytes(b"earlier")

    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(layer_files if stage == "save_file" else os, stage, fail)
    with pytest.raises(type(failure)) as caught:
        write_tensors(path, some(), {})
    if isinstance(failure, OSError):
        assert str(caught.value) == f"output {path} cannot be written: No space left"
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == b"earlier"


def test_targets_that_cannot_be_are_refused_early(path: Path, tmp_path: Path):
    for target, message in (
        (tmp_path, "is a directory"),
        (tmp_path / "none" / "out", "there is no directory"),
        (Path(os.devnull), "not a regular file"),
    ):
        with pytest.raises(BadInput, match=message):
            check_target(target)
    path.write_bytes(b"")
    (tmp_path / "link").symlink_to(path)
    for same in (path, tmp_path / "link", tmp_path / "." / path.name):
        with pytest.raises(BadInput, match="is the input file"):
            check_target(same, path)
    check_target(tmp_path / "new", path)
    check_target(path, tmp_path / "other")


def test_a_closed_directory_is_refused_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(BadInput, match="cannot be written to"):
        check_target(tmp_path / "out")


def test_json_has_no_number_that_json_has_not():
    content = {"b": [float("inf"), 1.5], "a": (float("nan"), {"x": -float("inf")}), "c": 2**70}
    assert json.loads(to_json(content)) == {
        "a": [None, {"x": None}],
        "b": [None, 1.5],
        "c": 2**70,
    }
