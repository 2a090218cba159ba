"""What the processes of a run must have in common."""

from pathlib import Path

from ssd_jax.data.cut import Cut, read_cut
from ssd_jax.distributed import devices, exchange


def shared_cut(folder: Path) -> Cut | None:
    """The cut that the main process reads from a work directory, on every process; see `read_cut`.

    Raises:
      UserError: the file cannot be read.
    """
    stored = read_cut(folder) if devices.is_main_process() else None
    content = exchange.from_main_process(None if stored is None else stored.as_json())
    return None if content is None else Cut.from_json(content)
