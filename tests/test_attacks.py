"""The quick attacks of `tools/attacks`."""

import pytest

from tools.attacks.__main__ import every_attack
from tools.attacks.attack import Attack

pytestmark = pytest.mark.slow  # together


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(attack, id=f"{attack.kind}: {attack.name}")
        for attack in every_attack()
        if attack.quick
    ],
)
def test_quick_attacks_do_no_harm(attack: Attack, tmp_path) -> None:
    attack.run(tmp_path)
