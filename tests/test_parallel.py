import jax
import numpy as np

from ssd_jax import parallel


def test_batches_are_sent_one_ahead_in_order(monkeypatch):
    sent, send = [], jax.device_put
    monkeypatch.setattr(jax, "device_put", lambda x, to: sent.append(x) or send(x, to))
    batches = ({"x": np.full((8, 2), number), "name": f"batch {number}"} for number in range(4))
    seen = []
    for batch, on_device in parallel.prefetch(batches, ["x"]):
        seen.append(batch["name"])
        assert len(sent) == min(len(seen) + 1, 4)  # the one after this is on its way too
        assert list(on_device) == ["x"] and isinstance(on_device["x"], jax.Array)
        np.testing.assert_array_equal(parallel.unshard(on_device["x"]), batch["x"])
    assert seen == [f"batch {number}" for number in range(4)]


def test_what_was_sent_ahead_compiles_a_step_once():
    compilations = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compilations.append(event) if "backend_compile" in event else None
    )
    step = parallel.pmap_train_step(
        lambda state, batch: (state + parallel.sum_over_devices(batch["x"].sum()), batch["x"].sum())
    )
    state, counts = parallel.replicate(np.float32(0)), []
    for _, batch in parallel.prefetch(
        ({"x": np.ones((8, 3), np.float32)} for _ in range(4)), ["x"]
    ):
        state, _ = step(state, batch)
        counts.append(len(compilations))
    assert state == 4 * 24
    assert counts[0] > 0 and counts[1:] == [counts[0]] * 3
