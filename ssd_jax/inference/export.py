"""The export of a detector to any format, by `ssd-jax export` and by `Detector.export`."""

import json
import logging
from collections.abc import Mapping
from types import MappingProxyType

from ssd_jax.errors import UserError, first_names
from ssd_jax.inference.page.exported import export_page
from ssd_jax.interop.export import DEFAULT, PAGE, Choices, check_export, export
from ssd_jax.interop.hub import ModelCard, check_repository, push, save_for_hub
from ssd_jax.interop.trained import Trained
from ssd_jax.storage.checksums import CHECKSUMS_FILE, listed_checksums
from ssd_jax.storage.copies import bytes_in, name_of
from ssd_jax.storage.files import AnyPath, check_schemes
from ssd_jax.storage.outputs import check_outputs_in

logger = logging.getLogger(__name__)

DESCRIPTIONS = ("classes.json", "config.json", "detector.json")  # files that name the classes


def check_target(
    to: str, output: AnyPath, choices: Choices = DEFAULT, repository: str | None = None
) -> None:
    """Checks the arguments of `export_detector` before a detector is loaded.

    Raises:
      UserError: see `export_detector`.
    """
    check_export(to, choices)
    check_schemes(choices.calibration)
    check_outputs_in(output)
    if repository is not None:
        if to != "hf":
            raise UserError("--push goes only with --to=hf")
        check_repository(repository)


def export_detector(
    trained: Trained,
    output: AnyPath,
    to: str,
    choices: Choices = DEFAULT,
    numbers: Mapping[str, float] = MappingProxyType({}),
    repository: str | None = None,
) -> str:
    """Writes a folder with a detector; other formats in the folder are kept.

    Args:
      trained: the detector.
      output: the folder.
      to: the format, one of `export.FORMATS` or `PAGE`.
      choices: precision and licence.
      numbers: its metrics by name, for the model card of "hf".
      repository: `USER/NAME` on the Hugging Face hub, to upload a folder of "hf" to.

    Returns:
      The address of the upload; "" without one.

    Raises:
      UserError: see `export` and `push`; or the folder holds a detector with other classes.
    """
    check_target(to, output, choices, repository)
    before = _checksums(output)
    if before:
        _check_same_classes(trained, output)
    if to == "hf":
        card = ModelCard(repository or name_of(output), numbers, choices.license_name)
        save_for_hub(trained, output, card)
    elif to == PAGE:
        export_page(trained, output, choices)
    else:
        export(to, trained, output, choices)
    after = _checksums(output)
    replaced = [name for name in before if after.get(name, before[name]) != before[name]]
    if replaced:
        logger.warning("%s: replaced %s of an earlier export", output, first_names(replaced))
    return push(str(output), repository) if repository is not None else ""


def written_files(output: AnyPath) -> list[str]:
    """The files of all exports in a folder, without a model card and the checksums."""
    return sorted(_checksums(output))


def _checksums(output: AnyPath) -> dict[str, str]:
    return listed_checksums(bytes_in(output, CHECKSUMS_FILE))


def _check_same_classes(trained: Trained, output: AnyPath) -> None:
    """Refuses a folder of exports if they are of a detector with other classes."""
    own = list(trained.class_names)
    for name in DESCRIPTIONS:
        found = _class_names(bytes_in(output, name))
        if found and found != own:
            raise UserError(
                f"{output} holds another detector: the classes in {name} are {first_names(found)}, "
                f"those of this detector are {first_names(own)}: name another folder"
            )


def _class_names(content: bytes | None) -> list[str]:
    """The classes in a description of an export; none if it names none, or is damaged."""
    try:
        described = json.loads(content or b"null")
        classes = described["classes"] if isinstance(described, dict) else described
        classes = json.loads(classes) if isinstance(classes, str) else classes
        return [each["name"] for each in classes]
    except (ValueError, KeyError, TypeError):
        return []
