"""Fields of a config that have no effect because of another field."""

import operator

from ssd_jax.config.schema import Config


def unused_fields(config: Config) -> list[str]:
    """Returns one line for each field that was changed but has no effect."""
    augment, confidence = config.augment, config.loss.confidence
    # The setting that switches fields off, whether it is set, and the fields.
    switches = (
        ("eval_every=-1", config.eval_every < 0, ("patience",)),
        (
            "loss.confidence=mining",
            confidence == "mining",
            ("loss.focal_alpha", "loss.focal_gamma"),
        ),
        (
            "loss.confidence=focal",
            confidence == "focal",
            ("loss.negatives_per_positive", "loss.min_negatives"),
        ),
        ("augment.color=False", not augment.color, ("augment.color_strength",)),
        ("augment.crop=False", not augment.crop, ("augment.crop_probability",)),
    )
    default = Config()
    return [
        f"config.{name}={value(config)!r} has no effect with config.{switch}"
        for switch, is_off, names in switches
        for name, value in ((name, operator.attrgetter(name)) for name in names)
        if is_off and value(config) != value(default)
    ]
