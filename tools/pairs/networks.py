"""The train step and detection of `ssd_jax` as cases of a comparison."""

import time
from pathlib import Path
from typing import Any

from tools.pairs.worker import Case, Prepared

CANDIDATES = 1000  # boxes of any class and an image that pass the threshold, of "predict_few"


def prepare_network(root: Path, case: Case) -> Prepared:
    """The train step, or images to detections, with random weights and images.

    Args:
      root: a source tree; its `ssd_jax` is imported.
      case: `config`, a name in `configs/`; `batch_size`; and `mode`: "train", "predict" or
        "predict_few", with about as many candidates as a trained network has.
    """
    import jax

    from ssd_jax.benchmark import network as benchmark
    from ssd_jax.config.files import load_config
    from ssd_jax.models.network import build_network

    jax.config.update("jax_enable_compilation_cache", False)
    config = benchmark.with_precision(load_config(f"{root}/configs/{case['config']}.py"), "float32")
    config = config.replace({"optimizer": "sgd"})  # as torchvision trains
    mode, batch_size = case["mode"].removesuffix("_few"), case["batch_size"]
    network = build_network(config.model, benchmark.NUM_CLASSES)
    counted, _ = network.variable_shapes()
    about: dict[str, float] = {"parameters": sum(array.size for array in jax.tree.leaves(counted))}
    weights = benchmark._weights
    if case["mode"] == "predict_few":
        benchmark._weights = lambda *arguments: with_few_candidates(
            config, network, weights(*arguments), batch_size
        )
    try:
        prepared = benchmark._prepare(config, mode, batch_size)
    finally:
        benchmark._weights = weights
    start = time.process_time()
    compiled = prepared.lowered.compile()
    about["compile_cpu_seconds"] = time.process_time() - start
    call = prepared.calls(compiled)
    about["planned_bytes"] = benchmark._planned_memory(compiled)
    return lambda: jax.block_until_ready(call()), about


def with_few_candidates(config: Any, network: Any, variables: Any, batch_size: int) -> Any:
    """Raises the background logit of weights until `CANDIDATES` boxes pass the score threshold.

    Logits have the standard deviation 1.
    """
    import jax
    import numpy as np

    from ssd_jax.benchmark.network import random_batch

    parameters, batch_stats = variables
    images = random_batch(config, batch_size)["image"]

    @jax.jit
    def logits_of(variables: Any, images: jax.Array) -> jax.Array:
        return network.apply(*variables, network.normalise(images), train=False)[0][1]

    # Scores of random weights may differ so little that rounding decides which boxes pass.
    logits = np.array(logits_of(variables, images), np.float64)
    scale = 1 / logits.std()
    logits *= scale

    def candidates(background: float) -> float:
        raised = logits + background * (np.arange(logits.shape[-1]) == 0)
        raised = np.exp(raised - raised.max(axis=-1, keepdims=True))
        scores = raised[..., 1:] / raised.sum(axis=-1, keepdims=True)
        return np.sum(scores > config.detection.score_threshold) / batch_size

    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if candidates(middle) > CANDIDATES else (low, middle)

    def raised(path: tuple[Any, ...], array: np.ndarray) -> np.ndarray:
        names = [str(key.key) for key in path]
        if names[:2] != ["heads", "logits"] or {"norm", "depthwise"} & set(names):
            return array
        if names[-1] == "kernel":
            return np.array(array) * np.float32(scale)
        by_class = np.array(array).reshape(-1, logits.shape[-1]) * np.float32(scale)
        by_class[:, 0] += high
        return by_class.reshape(-1)

    return jax.tree_util.tree_map_with_path(raised, parameters), batch_stats
