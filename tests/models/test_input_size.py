from ssd_jax.config.files import load_config
from ssd_jax.models.input_size import fields_of_size


def test_fields_of_an_input_size_are_in_proportion_to_those_of_the_config():
    model = load_config("ssdlite320_mobilenetv2_voc").model
    at_320 = fields_of_size(model, 320)
    assert at_320.pop("strides") == (16, 32, 64, 320 / 3, 160, 320)
    assert at_320 == {name: getattr(model, name) for name in at_320}
    assert fields_of_size(model, 160) == {
        "image_size": 160,
        "feature_sizes": (10, 5, 3, 2, 1, 1),
        "strides": (16, 32, 160 / 3, 80, 160, 160),
        "min_sizes": (24, 50, 75, 101, 126, 152),
        "max_sizes": (50, 75, 101, 126, 152, 160),
    }
