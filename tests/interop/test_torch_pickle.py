import collections
import os
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest

from ssd_jax.errors import UserError
from ssd_jax.interop.torch_pickle import read_torch_file
from ssd_jax.interop.weight_files import read_weights
from tools.torch_files import (
    LEGACY_MAGIC,
    Storage,
    Tensor,
    save_legacy,
    save_zip,
    state_dict,
)

SAVE = [save_zip, save_legacy]
TENSORS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "conv.bias": np.array([1.5, -2.5], np.float32),
    "norm.count": np.array(7, np.float32),
}


@pytest.mark.parametrize("save", SAVE)
def test_tensors_are_read_back_unchanged(save, tmp_path):
    save(tmp_path / "weights.pth", state_dict(TENSORS))
    content = read_torch_file(tmp_path / "weights.pth", 10**7)
    assert list(content) == list(TENSORS)
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(content[name], array)
        assert content[name].dtype == array.dtype


@pytest.mark.parametrize("save", SAVE)
def test_tensors_may_share_storages_and_be_turned(save, tmp_path):
    values = np.arange(12, dtype=np.float32)
    storage = Storage("0", values)
    content = {
        "turned": Tensor(storage, (4, 3), (1, 4)),
        "part": Tensor(storage, (2, 2), (3, 1), offset=5),
        "none": Tensor(storage, (0, 3)),
    }
    save(tmp_path / "weights.pth", content)
    read = read_torch_file(tmp_path / "weights.pth", 10**7)
    np.testing.assert_array_equal(read["turned"], values.reshape(3, 4).T)
    np.testing.assert_array_equal(read["part"], [[5, 6], [8, 9]])
    assert read["none"].shape == (0, 3)


@pytest.mark.parametrize("save", SAVE)
@pytest.mark.parametrize(
    "kind, dtype, read_dtype",
    [
        ("HalfStorage", np.float16, np.float16),
        ("LongStorage", np.int64, np.int64),
        ("BFloat16Storage", ml_dtypes.bfloat16, np.float32),
    ],
)
def test_other_types_are_read(save, kind, dtype, read_dtype, tmp_path):
    values = np.array([1, -2, 3]).astype(dtype)
    save(tmp_path / "weights.pth", {"a": Tensor(Storage("0", values, kind), (3,))})
    read = read_torch_file(tmp_path / "weights.pth", 10**7)["a"]
    assert read.dtype == read_dtype
    np.testing.assert_array_equal(read, [1, -2, 3])


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_state_dicts_are_found_in_what_training_programs_save(wrapper, tmp_path):
    wrapped = {
        "epoch": 3,
        "meta": {"classes": ["a"]},
        wrapper: state_dict({"module.a": TENSORS["conv.bias"]}),
    }
    save_zip(tmp_path / "weights.pth", wrapped)
    read = read_weights(str(tmp_path / "weights.pth"))
    assert list(read) == ["a"]
    np.testing.assert_array_equal(read["a"], TENSORS["conv.bias"])


class Malicious:
    """Creates a file when it is loaded by pickle itself."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("save", SAVE)
def test_a_malicious_file_is_refused_and_runs_nothing(save, tmp_path):
    trace, file = tmp_path / "trace", tmp_path / "weights.pth"
    save(file, {**state_dict(TENSORS), "evil": Malicious(trace)})
    with pytest.raises(UserError, match=r"weights\.pth is rejected.*posix\.system"):
        read_weights(str(file))
    assert not trace.exists()
    # It would have run.
    pickle.loads(pickle.dumps(Malicious(trace)))
    assert trace.exists()


def test_a_bare_pickle_is_refused(tmp_path):
    trace, file = tmp_path / "trace", tmp_path / "weights.pth"
    file.write_bytes(pickle.dumps(Malicious(trace)))
    with pytest.raises(UserError, match="is rejected"):
        read_weights(str(file))
    file.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UserError, match="is not a file of PyTorch weights"):
        read_weights(str(file))
    assert not trace.exists()


@pytest.mark.parametrize("what", [eval, getattr, np.dtype, collections.Counter, type])
def test_pickles_that_name_other_objects_are_rejected(what, tmp_path):
    save_zip(tmp_path / "weights.pth", {"a": what})
    with pytest.raises(
        UserError, match="is rejected, because it contains more than tensors: it uses"
    ):
        read_torch_file(tmp_path / "weights.pth", 10**7)


@pytest.mark.parametrize("save", SAVE)
@pytest.mark.parametrize(
    "shape, strides, offset",
    [
        ((10**9, 10**9), (0, 0), 0),  # a little storage, and all the memory there is
        ((5,), (1,), 0),
        ((2,), (1,), 3),
        ((2,), (-1,), 3),
        ((1,), (1,), -1),
    ],
)
def test_tensors_beyond_their_storage_are_refused(save, shape, strides, offset, tmp_path):
    storage = Storage("0", np.zeros(4, np.float32))
    save(tmp_path / "weights.pth", {"a": Tensor(storage, shape, strides, offset)})
    with pytest.raises(UserError, match="exceeds its storage"):
        read_torch_file(tmp_path / "weights.pth", 10**7)


@pytest.mark.parametrize("save", SAVE)
def test_damaged_files_give_one_line(save, tmp_path):
    whole, file = tmp_path / "whole.pth", tmp_path / "part.pth"
    save(whole, state_dict(TENSORS))
    content = whole.read_bytes()
    for length in range(0, len(content), 37):
        file.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"part\.pth is not a file of PyTorch weights") as error:
            read_weights(str(file))
        assert "\n" not in str(error.value)


def test_compressed_parts_are_refused(tmp_path):
    bomb = {"a": Tensor(Storage("0", np.zeros(10**6, np.float32)), (10**6,))}
    save_zip(tmp_path / "weights.pth", bomb, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="its parts are compressed"):
        read_torch_file(tmp_path / "weights.pth", 10**7)


def test_a_wrong_length_in_an_old_file_is_noticed(tmp_path):
    file = tmp_path / "weights.pth"
    save_legacy(file, {"a": Tensor(Storage("0", np.ones(4, np.float32)), (4,))})
    content = file.read_bytes()
    assert pickle.loads(content) == LEGACY_MAGIC
    file.write_bytes(content[:-24] + np.int64(10**12).tobytes() + content[-16:])
    with pytest.raises(UserError, match="its part '0' does not match its index"):
        read_torch_file(file, 10**6)


@pytest.mark.parametrize(
    "content, complaint",
    [({}, "has no state dict"), ([1], "has no state dict"), ({"a": 1}, "its 'a' is not a tensor")],
)
def test_files_without_a_state_dict_are_refused(content, complaint, tmp_path):
    save_zip(tmp_path / "weights.pth", content)
    with pytest.raises(UserError, match=complaint):
        read_weights(str(tmp_path / "weights.pth"))
