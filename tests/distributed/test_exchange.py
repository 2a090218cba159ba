"""Values between processes are unchanged, and never executed."""

import json

import numpy as np
import pytest

from ssd_jax.distributed import exchange
from ssd_jax.errors import UserError
from tests.helpers.processes import run_together

STRANGER = """
    def stranger(number, data):
        # Takes part in an exchange as process 1, with bytes of its own.
        from jax._src import distributed
        client = distributed.global_state.client
        client.key_value_set_bytes(f"ssd_jax/exchange/{number}/1", data)
        client.wait_at_barrier(f"ssd_jax/exchange/{number}", 60_000)
"""

ALIKE = """
    value = {"process": index, "text": "ä\\udc80\\0", "x": [0.1, None]}
    values = exchange.gather_from_processes(value)
    first = exchange.from_main_process(["from", index])
    read = {
        "few": np.float32([[-0.0, np.nan, 1e-40]]).view(np.int32).view(np.float32),
        "odd": np.arange(3, dtype=np.int8), "one": np.int32(7), "none": np.zeros((0, 2), bool),
    }
    told = exchange.arrays_from_main_process(
        lambda: read, jax.eval_shape(lambda: read)
    )
    told = {name: [str(a.dtype), a.shape, a.tobytes().hex()] for name, a in told.items()}
    watch.stop()  # as where the user joined them, by JAX alone
    arrays = exchange.gather_arrays({
        "numbers": np.arange(3 * index, dtype=np.float32).reshape(-1, 3) / 7,
        "flags": np.ones(index, bool),
    })
    described = [
        {name: [str(a.dtype), a.shape, a.tolist()] for name, a in own.items()} for own in arrays
    ]
    print(json.dumps([values, first, told, described]))
    devices.leave_together()
"""


@pytest.mark.multiprocess
def test_every_process_receives_the_same_values():
    done = run_together(ALIKE, 3)
    for each in done:
        assert each.returncode == 0 and not each.stderr, each.stderr
        values, first, told, arrays = json.loads(each.stdout.splitlines()[-1])
        assert values == [
            {"process": index, "text": "ä\udc80\0", "x": [0.1, None]} for index in range(3)
        ]
        assert first == ["from", 0]
        assert told == {
            "few": ["float32", [1, 3], "000000800000c07fc2160100"],
            "odd": ["int8", [3], "000102"],
            "one": ["int32", [], "07000000"],
            "none": ["bool", [0, 2], ""],
        }
        for index in range(3):
            numbers = np.arange(3 * index, dtype=np.float32).reshape(-1, 3) / 7
            assert arrays[index] == {
                "numbers": ["float32", [index, 3], numbers.tolist()],
                "flags": ["bool", [index], [True] * index],
            }


PICKLE = """
    import pickle
    class Bomb:
        def __reduce__(self):
            return print, ("the code ran",)
    if index == 0:
        exchange.{call}
        print("went on")
    else:
        stranger(0, pickle.dumps(Bomb()))
        time.sleep(5)
"""


@pytest.mark.parametrize(
    "call", ["gather_from_processes(1)", "gather_arrays({'x': np.ones(3)})"], ids=["json", "arrays"]
)
@pytest.mark.multiprocess
def test_a_pickle_from_another_process_is_refused(call):
    main, _ = run_together(STRANGER + PICKLE.replace("{call}", call))
    assert main.returncode == 1 and not main.stdout
    assert (
        "process 1 of the run sent data that is not" in main.stderr
        and "Traceback" not in main.stderr
    )


def test_a_single_process_receives_its_own_data():
    assert exchange.from_main_process([1]) == [1]
    assert exchange.gather_from_processes([1]) == [[1]]
    (arrays,) = exchange.gather_arrays({"x": np.arange(3)})
    np.testing.assert_array_equal(arrays["x"], np.arange(3))


@pytest.mark.parametrize("data", [b"", b"{", b"\x80\x05N.", b"[" * 100_000, "ä".encode("latin-1")])
def test_data_that_is_not_json_is_rejected(data):
    with pytest.raises(UserError, match="process 3 of the run sent data that is not JSON"):
        exchange.parsed_json(data, 3)
