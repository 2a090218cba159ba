"""Lines of records belong to their images also if other images cannot be read."""

import numpy as np

from ssd_jax.data.classes import Classes
from ssd_jax.data.records import Object, Record, annotation
from ssd_jax.diagnostics.image_findings import ImageContent
from ssd_jax.diagnostics.record_lines import RecordLines


def record(name, corner):
    box = np.array([[0, 0, corner, corner]], np.float32)
    one = np.ones(1)
    return Record(
        name, "", b"x", None, box, one.astype(np.int32), one < 0, one < 0, np.full(1, np.nan)
    )


def test_an_unreadable_record_moves_no_other_line():
    lines = RecordLines("test", Classes(("cat",)), [record("a", 0.5), record("b", 0.25)])
    second = annotation("b", "", "b", [Object("cat", (0, 0, 0.25, 0.25))], unit="fractions")
    read = lines.record(1, second, ImageContent(size=(40, 80)))
    assert read.line["boxes"] == [[0, 0, 20, 10]] and read.num_learnt == 1
