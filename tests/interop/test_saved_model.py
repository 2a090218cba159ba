"""A SavedModel gives the detector's detections in TensorFlow alone, and describes itself."""

import json

import pytest

from ssd_jax.data.tensorflow_setup import tf
from ssd_jax.errors import UserError
from ssd_jax.interop import export as exports
from ssd_jax.storage.checksums import verify_checksums
from tests.helpers.same_detections import assert_same_detections
from tests.interop.test_onnx import SIZE


def test_detections_do_not_depend_on_the_number_of_images(exported_detector, exported_images):
    folder, (images, wanted) = exported_detector("saved_model"), exported_images
    model = tf.saved_model.load(str(folder))
    for count in (1, len(images)):
        found = model.signatures["serving_default"](images=tf.constant(images[:count]))
        found = {name: tensor.numpy() for name, tensor in found.items()}
        assert set(found) == {"boxes", "scores", "labels"} and len(found["boxes"]) == count
        for i, ours in enumerate(wanted[:count]):
            assert_same_detections({name: of_all[i] for name, of_all in found.items()}, ours)


def test_the_folder_describes_the_detector(exported_detector):
    folder = exported_detector("saved_model")
    assert json.loads((folder / "classes.json").read_text())[1] == {"id": 5, "name": "dog"}
    told = json.loads((folder / "assets" / "detector.json").read_text())
    assert told["classes"][1] == {"id": 5, "name": "dog"} and told["license"] == "mit"
    assert told["image_size"] == SIZE and told["boxes"].startswith("x_min, y_min")
    verify_checksums(folder, ["saved_model.pb", "variables", "assets", "classes.json"])
    run = tf.saved_model.load(str(folder)).signatures["serving_default"]
    given = run.structured_input_signature[1]["images"]
    assert (given.dtype, given.shape.as_list()) == (tf.uint8, [None, SIZE, SIZE, 3])
    kinds = {name: spec.dtype for name, spec in run.structured_outputs.items()}
    assert kinds == {"boxes": tf.float32, "scores": tf.float32, "labels": tf.int32}


def test_without_tensorflow_the_install_command_is_shown(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^export to saved_model needs TensorFlow: .*\.\[train\]"):
        exports.write_for_engines("saved_model", None, tmp_path)


@pytest.mark.parametrize("kind", ["safetensors", "stablehlo", "ssd.pytorch", "torchvision"])
def test_formats_without_a_place_for_a_licence_are_refused(kind):
    wanted = f"'mit', but --to={kind} cannot state it.* hf, onnx, tflite, saved_model or web$"
    with pytest.raises(UserError, match=wanted):
        exports.check_export(kind, exports.Choices(license_name="mit"))
