"""A SavedModel behind the REST interface of TensorFlow Serving, `predict` in rows.

The formats are those of its json_tensor.cc. A request has `instances`, one value for each image,
with numbers of the type in the signature. An answer has `predictions`: for each image an object
with a row of each output. An error has status 400.
"""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np


@contextlib.contextmanager
def serving(versions: Path, name: str) -> Iterator[int]:
    """The port at which the model with the highest number in a folder is served."""
    from ssd_jax.data.tensorflow_setup import tf

    newest = max(versions.iterdir(), key=lambda folder: int(folder.name))
    model = tf.saved_model.load(str(newest))
    run = model.signatures["serving_default"]
    ((given, spec),) = run.structured_input_signature[1].items()

    def predict(request: dict) -> dict:
        assert request.keys() <= {"signature_name", "instances"}
        assert request.get("signature_name", "serving_default") == "serving_default"
        rows = [row[given] if isinstance(row, dict) else row for row in request["instances"]]
        values = np.array(rows)  # fails where rows differ in shape
        kind = spec.dtype.as_numpy_dtype
        assert values.dtype.kind in "iu" and (values == values.astype(kind)).all()
        found = run(**{given: tf.constant(values.astype(kind))})
        outputs = {each: tensor.numpy() for each, tensor in found.items()}
        assert {len(array) for array in outputs.values()} == {len(rows)}
        return {
            "predictions": [
                {each: array[i].tolist() for each, array in outputs.items()}
                for i in range(len(rows))
            ]
        }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                assert self.path == f"/v1/models/{name}:predict"
                status, answer = 200, predict(json.loads(body))
            except Exception as error:
                status, answer = 400, {"error": repr(error)}
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
