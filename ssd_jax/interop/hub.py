"""Downloads and uploads detectors on the Hugging Face hub: folders with a model card."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml

import ssd_jax
from ssd_jax.errors import UserError, check_installed, missing_package, reason_of
from ssd_jax.interop.trained import FILES, Trained, load_folder, save_folder
from ssd_jax.storage.checksums import CHECKSUMS_FILE
from ssd_jax.storage.clouds import is_remote
from ssd_jax.storage.copies import local_copy, sending
from ssd_jax.storage.files import AnyPath, write_text
from ssd_jax.storage.outputs import check_outputs

PREFIX = "hf:"
CARD = "README.md"
REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def hub_folder(name: str) -> Path:
    """The folder of a detector on the hub, downloaded once and kept in the cache of the hub.

    Args:
      name: `USER/NAME`, or `USER/NAME@REVISION`.

    Raises:
      UserError: the name is invalid, the repository cannot be read, or the package
        `huggingface_hub` is not installed.
    """
    repository, revision = _parts(name)
    hub = _import_hub()
    try:
        folder = hub.snapshot_download(
            repository, revision=revision, allow_patterns=[*FILES, CHECKSUMS_FILE]
        )
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as error:
        raise UserError(
            f"{PREFIX}{name} cannot be downloaded: {reason_of(error)}; a private repository needs "
            "`hf auth login`"
        ) from error
    return Path(folder)


def load_pretrained(place: AnyPath) -> Trained:
    """Loads the detector of a folder, or of `hf:USER/NAME`, a repository of the hub.

    Raises:
      UserError: see `load_folder` and `hub_folder`.
    """
    name = str(place)
    return load_folder(hub_folder(name[len(PREFIX) :]) if name.startswith(PREFIX) else place)


def push(place: AnyPath, name: str) -> str:
    """Uploads a folder of `save_for_hub`; creates the repository if necessary.

    Args:
      place: the folder.
      name: `USER/NAME`.

    Returns:
      The address of the commit.

    Raises:
      UserError: the name is invalid, the hub refuses, or the package is not installed.
    """
    check_repository(name)
    hub = _import_hub()
    try:
        hub.create_repo(name, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=name,
            folder_path=local_copy(place),
            allow_patterns=[*FILES, CHECKSUMS_FILE, CARD],
            commit_message=f"Detector of ssd_jax {ssd_jax.__version__}",
        )
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as error:
        raise UserError(
            f"{place} cannot be uploaded to {name}: {reason_of(error)}; run `hf auth login` with "
            "a token that may write"
        ) from error
    return str(commit.commit_url)


def check_repository(name: str) -> None:
    """Raises a `UserError` if a name is not `USER/NAME`, or the package is not installed."""
    check_installed("huggingface_hub")
    if _parts(name)[1]:
        raise UserError(f"{name!r} names a revision, but uploads need USER/NAME")


def _parts(name: str) -> tuple[str, str | None]:
    """The repository and the revision of a name."""
    found = REPOSITORY.fullmatch(name)
    if not found:
        raise UserError(f"{name!r} is not a repository of the hub: write USER/NAME")
    return found[1], found[2]


def _import_hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise missing_package("huggingface_hub") from error
    return huggingface_hub


class ModelCard(NamedTuple):
    """The content of a model card that is not in the detector.

    Attributes:
      name: the name of the detector, or `USER/NAME` of its repository.
      numbers: its metrics by name, including `mAP`; empty without evaluation.
      license_name: its licence in the form of the hub, like "apache-2.0"; "" if not stated.
    """

    name: str
    numbers: Mapping[str, float] = MappingProxyType({})
    license_name: str = ""

    def text(self, trained: Trained) -> str:
        """The text of a model card: description, metrics, usage and config of training.

        Leaves out config fields that name data and files, because they may be private.
        """
        header = yaml.safe_dump(self._header(), sort_keys=False, allow_unicode=True).rstrip()
        return "\n".join(["---", header, "---", "", *self._page(trained)])

    def _header(self) -> dict[str, Any]:
        """The header for the hub."""
        header: dict[str, Any] = {
            "library_name": "ssd_jax",
            "pipeline_tag": "object-detection",
            "tags": ["object-detection", "ssd", "jax", "flax"],
        }
        if self.license_name:
            header["license"] = self.license_name
        if "mAP" in self.numbers:
            result = {
                "task": {"type": "object-detection"},
                "dataset": {"name": "evaluation images of the run", "type": "images"},
                "metrics": [{"type": "mAP", "value": round(self.numbers["mAP"], 4)}],
            }
            header["model-index"] = [{"name": self._title, "results": [result]}]
        return header

    @property
    def _title(self) -> str:
        return self.name.rpartition("/")[2]

    def _page(self, trained: Trained) -> list[str]:
        """The text for people, in Markdown."""
        settings = trained.config.model
        classes = ", ".join(f"`{name.replace('`', '')}`" for name in trained.class_names)
        repository = self.name if "/" in self.name else f"USER/{self.name}"
        return [
            f"# {self._title}",
            "",
            f"An SSD (Single Shot MultiBox Detector) with the backbone `{settings.backbone}`, for "
            f"images of {settings.image_size} × {settings.image_size} pixels, trained with "
            f"`ssd_jax` {ssd_jax.__version__}.",
            "",
            f"It finds {classes}.",
            "",
            *_table(self.numbers),
            "```python",
            "from ssd_jax import Detector",
            "",
            f'detector = Detector.from_pretrained("{PREFIX}{repository}")',
            'detections = detector("image.jpg", score_threshold=0.4)',
            "print(detections.names, detections.scores, detections.boxes)  # xyxy in pixels",
            "```",
            "",
            "Trained with",
            "",
            "```yaml",
            yaml.safe_dump(_shared_config(trained), sort_keys=False).rstrip(),
            "```",
            "",
        ]


def save_for_hub(trained: Trained, place: AnyPath, card: ModelCard) -> None:
    """Writes the folder of `save_folder`, and a model card.

    Raises:
      UserError: see `save_folder`.
    """
    if is_remote(place):
        check_outputs(place, also_remote=True)
    with sending(place) as folder:
        save_folder(trained, folder)
        write_text(folder / CARD, card.text(trained))


def _table(numbers: Mapping[str, float]) -> list[str]:
    """The metrics, except the loss, as lines of Markdown."""
    rows = [f"| {name} | {value:.4f} |" for name, value in numbers.items() if name != "loss"]
    if not rows:
        return []
    return ["| on its evaluation images | |", "|---|---:|", *rows, ""]


def _shared_config(trained: Trained) -> dict[str, Any]:
    """The config without fields that name data and files."""
    config = trained.config.model_dump(mode="json", exclude={"data", "init"})
    config.get("augment", {}).pop("custom", None)
    return config
