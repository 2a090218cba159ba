r"""Table 6 of the paper: the effect of expansion, on VOC 2007 + 2012.

    ssd-jax train --config=configs/ablations/table6.py:ssd512 --workdir=runs/ssd512

or all of them, into one table:

    ssd-jax sweep --configs=configs/ablations/table6.py --workdir=runs/table6

Published: mAP on VOC2007 test of

    row               expansion    steps    mAP
    ssd300            no          60,000   74.3
    ssd300_expansion  yes        120,000   77.2
    ssd512            no          60,000   76.8
    ssd512_expansion  yes        120,000   79.8
"""

from ml_collections import ConfigDict

from configs import ssd300_voc, ssd300_voc07, ssd512_voc

PUBLISHED = "mAP on VOC2007 test (paper, table 6)"

ROWS = {"ssd300": 74.3, "ssd300_expansion": 77.2, "ssd512": 76.8, "ssd512_expansion": 79.8}


def get_config(row: str = "ssd300_expansion") -> ConfigDict:
    """One row of the table: the differences from SSD300 or SSD512 on VOC 2007 + 2012.

    Raises:
      ValueError: the table has no such row.
    """
    if row not in ROWS:
        raise ValueError(f"table 6 has no row {row!r}: its rows are {', '.join(ROWS)}")
    system = ssd300_voc if row.startswith("ssd300") else ssd512_voc
    config = system.get_config()
    if not row.endswith("_expansion"):
        config = ssd300_voc07.before_expansion(config)
    return config
