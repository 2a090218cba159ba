"""Writes shards to an object store; each is sent when it is complete.

During the conversion, the place has the shards that were sent. Its folder `unfinished` has the plan
and the columns of each of these shards (`shards.py`), so that any machine can continue.
"""

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from ssd_jax.data.column_files import DETAILS
from ssd_jax.data.writers.tfds_files import INFO
from ssd_jax.storage import clouds
from ssd_jax.storage.copies import copy_place
from ssd_jax.storage.replacing import UNFINISHED

WORK = "unfinished"
PLAN = "plan.json"


class ShardStore:
    """The place of shards in a store, and a local folder for those that are being written.

    Attributes:
      place: `gs://…` or `s3://…`.
      folder: the local folder of the result.
    """

    def __init__(self, place: str):
        """Empties the local folder."""
        self.place, self.folder = place, copy_place(place, "shards")
        self._unfinished = self.folder.with_name(self.folder.name + UNFINISHED)
        for folder in (self.folder, self._unfinished):
            shutil.rmtree(folder, ignore_errors=True)
        self._sent: set[str] = set()

    def begin(self) -> None:
        """Fetches what an interrupted conversion has sent, except the content of shards."""
        found = clouds.objects_at(self.place)
        described = (name for name in found if name.endswith(f"/{DETAILS}"))
        folders = (name.removesuffix(DETAILS) for name in described)
        pieces = tuple(folder for folder in folders if Path(folder).name in found)
        wanted = [name for name in found if name == f"{WORK}/{PLAN}" or name.startswith(pieces)]
        clouds.fetch(self.place, self._unfinished, wanted)
        for piece in pieces:
            name = Path(piece).name
            (self._unfinished / name).touch()
            self._leave_empty(name, found[name].size)

    def send_plan(self) -> None:
        """Sends the plan, before the first shard."""
        clouds.send(self._unfinished, self.place, [f"{WORK}/{PLAN}"])

    def send_shard(self, name: str) -> None:
        """Sends a shard, then its columns, and frees its space on the disk."""
        shard = self._unfinished / name
        clouds.send(self._unfinished, self.place, [name])
        columns = {
            f"{WORK}/{name}/{file.name}" for file in (self._unfinished / WORK / name).iterdir()
        }
        last = f"{WORK}/{name}/{DETAILS}"
        clouds.send(self._unfinished, self.place, sorted(columns - {last}))
        clouds.send(self._unfinished, self.place, [last])
        self._leave_empty(name, shard.stat().st_size)

    def _leave_empty(self, name: str, size: int) -> None:
        """Replaces a sent shard by a sparse file of the same size, which takes no space."""
        self._sent.add(name)
        os.truncate(self._unfinished / name, 0)
        os.truncate(self._unfinished / name, size)

    def finish(self) -> None:
        """Sends the other files, `dataset_info.json` last, and removes the plan."""
        files = {
            file.relative_to(self.folder).as_posix()
            for file in self.folder.rglob("*")
            if file.is_file()
        }
        clouds.send(self.folder, self.place, sorted(files - self._sent - {INFO}))
        clouds.send(self.folder, self.place, [INFO])
        left = [name for name in clouds.objects_at(self.place) if name.startswith(f"{WORK}/")]
        clouds.remove(self.place, left)
        shutil.rmtree(self.folder)


def is_unfinished(names: Collection[str]) -> bool:
    """Whether a place with these objects has an interrupted conversion."""
    return f"{WORK}/{PLAN}" in names and INFO not in names
