"""Cases of `ssd_jax`, of this tree or of another one, as a worker process.

    python -m tools.pairs.ours ROOT

A case has `mode` and, by mode, `config` (a name in `configs/`), `batch_size` and others.
"""

import sys
from pathlib import Path
from typing import Any

from tools.pairs.worker import Case, Prepared, serve

CANDIDATES = 1000  # boxes of any class and an image that pass the threshold, of "predict_few"


def prepare_network(root: Path, case: Case) -> Prepared:
    """The train step, or images to detections, with random weights and images.

    `predict_few` has about as many candidates as a trained network.
    """
    import jax

    from ssd_jax.benchmark import network as benchmark
    from ssd_jax.config.files import load_config
    from ssd_jax.models.network import build_network

    config = benchmark.with_precision(load_config(f"{root}/configs/{case['config']}.py"), "float32")
    config = config.replace({"optimizer": "sgd"})  # as torchvision trains
    mode, batch_size = case["mode"].removesuffix("_few"), case["batch_size"]
    network = build_network(config.model, benchmark.NUM_CLASSES)
    counted, _ = network.variable_shapes()
    about = {"parameters": sum(array.size for array in jax.tree.leaves(counted))}
    weights = benchmark._weights
    if case["mode"] == "predict_few":
        benchmark._weights = lambda *arguments: _with_few_candidates(
            config, network, weights(*arguments), batch_size
        )
    try:
        prepared = benchmark._prepare(config, mode, batch_size)
    finally:
        benchmark._weights = weights
    compiled = prepared.lowered.compile()
    call = prepared.calls(compiled)
    about["planned_bytes"] = benchmark._planned_memory(compiled)
    return lambda: jax.block_until_ready(call()), about


def _with_few_candidates(config: Any, network: Any, variables: Any, batch_size: int) -> Any:
    """Weights whose background is likelier, until `CANDIDATES` boxes pass the score threshold."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from ssd_jax.benchmark.network import random_batch

    parameters, batch_stats = variables
    images = random_batch(config, batch_size)["image"]

    @jax.jit
    def logits_of(images: jax.Array) -> jax.Array:
        return network.apply(*variables, network.normalise(images), train=False)[0][1]

    logits = logits_of(images)

    @jax.jit
    def candidates(background: float) -> jax.Array:
        scores = jax.nn.softmax(logits.at[..., 0].add(background))[..., 1:]
        return jnp.sum(scores > config.detection.score_threshold) / batch_size

    low, high = 0.0, 100.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if candidates(middle) > CANDIDATES else (low, middle)

    def raised(path: tuple[Any, ...], array: np.ndarray) -> np.ndarray:
        names = [str(key.key) for key in path]
        if names[:2] != ["heads", "logits"] or names[-1] != "bias":
            return array
        by_class = np.array(array).reshape(-1, logits.shape[-1])
        by_class[:, 0] += high
        return by_class.reshape(-1)

    return jax.tree_util.tree_map_with_path(raised, parameters), batch_stats


def main() -> None:
    """Answers requests; see `tools/pairs/worker.py`."""
    root = Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(root))

    def prepare(case: Case) -> Prepared:
        return prepare_network(root, case)

    serve(prepare)


if __name__ == "__main__":
    main()
