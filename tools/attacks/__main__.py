"""Replays the attacks and prints a table of the results.

python -m tools.attacks                    # all
python -m tools.attacks --quick            # those that take seconds
python -m tools.attacks --kinds=page       # of some kinds
"""

import argparse
import collections
import importlib
import pkgutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import tools.attacks
from tools.attacks.attack import Attack


def every_attack() -> list[Attack]:
    """All attacks of the modules in this folder."""
    found = []
    for module in pkgutil.iter_modules(tools.attacks.__path__):
        if module.name != "__main__":
            loaded = importlib.import_module(f"tools.attacks.{module.name}")
            found += getattr(loaded, "ATTACKS", [])
    return found


def survives(attack: Attack, loud: bool) -> bool:
    """Runs one attack in a separate folder; returns whether the package survives."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        start = time.monotonic()
        try:
            attack.run(Path(folder))
        except Exception as error:
            print(f"NOT SURVIVED {attack.kind}: {attack.name}: {error}", flush=True)
            if loud:
                traceback.print_exc()
            return False
        finally:
            if loud:
                print(f"{time.monotonic() - start:6.1f} s {attack.kind}: {attack.name}", flush=True)
    return True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="only those that take seconds")
    parser.add_argument("--kinds", default="", help="of these kinds alone, joined by commas")
    parser.add_argument("--loud", action="store_true", help="each with its seconds and traceback")
    arguments = parser.parse_args()
    kinds = [kind for kind in arguments.kinds.split(",") if kind]
    chosen = [
        attack
        for attack in every_attack()
        if (attack.quick or not arguments.quick) and (not kinds or attack.kind in kinds)
    ]
    if not chosen:
        sys.exit(f"no attack is of {arguments.kinds}")
    tried, survived = collections.Counter(), collections.Counter()
    for attack in chosen:
        tried[attack.kind] += 1
        survived[attack.kind] += survives(attack, arguments.loud)
    print(f"{'kind':<24}{'tried':>8}{'survived':>10}")
    for kind in tried:
        print(f"{kind:<24}{tried[kind]:>8}{survived[kind]:>10}")
    print(f"{'all':<24}{tried.total():>8}{survived.total():>10}")
    sys.exit(tried.total() != survived.total())


if __name__ == "__main__":
    main()
