"""Maps the class names of the data to the classes of a training, and leaves out others."""

import dataclasses
import logging
import re
from collections.abc import Iterable, Mapping, Sequence

from ssd_jax.config.spelling import nearest
from ssd_jax.errors import UserError, first_names

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Classes:
    """The classes, in order, and their other names in the data.

    Attributes:
      names: class i + 1 has the name `names[i]`.
      renamed: new names by names of the data; "" leaves their objects out.
    """

    names: tuple[str, ...]
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def label(self, name: str) -> int:
        """The label of a name of the data; 0 if its objects are left out."""
        name = self.renamed.get(name, name)
        return self.names.index(name) + 1 if name in self.names else 0

    def misspelt(self, name: str) -> str:
        """The class that a name of the data misspells; "" if the name is not a misspelling.

        "Dog", "dgo" and "traffic_light" are misspellings; "car" is not a misspelling of "cat".
        """
        if name in self.renamed or name in self.names:
            return ""
        return next((known for known in self.names if is_misspelt(name, known)), "")


def is_misspelt(name: str, known: str) -> bool:
    """Whether names differ only in capitals, blanks, signs, two swapped or one missing letter."""
    first, second = letters(name), letters(known)
    if first == second:
        return bool(first)
    if len(first) == len(second) >= 3:
        differing = [i for i in range(len(first)) if first[i] != second[i]]
        if len(differing) == 2 and differing[1] == differing[0] + 1:
            i, j = differing
            return first[i] == second[j] and first[j] == second[i]
    short, long = sorted((first, second), key=len)
    if len(short) >= 5 and len(long) == len(short) + 1:
        return any(long[:i] + long[i + 1 :] == short for i in range(len(long)))
    return False


def letters(name: str) -> str:
    """The letters and digits of a name, in small letters."""
    return re.sub(r"[\W_]+", "", name.casefold())


def check_class_list(class_names: Sequence[str], field: str = "config.data.classes") -> None:
    """Rejects a list of classes with a repeated name.

    Args:
      class_names: the list.
      field: its field of the config, for the message.

    Raises:
      UserError: a class is repeated; the message names it.
    """
    seen = set()
    for name in class_names:
        if name in seen:
            raise UserError(f"{field} names the class {name!r} twice: name it once")
        seen.add(name)


def check_chosen(class_names: Sequence[str], occurring: Iterable[str], origin: str) -> None:
    """Rejects a chosen class without objects if the data has one with a similar name.

    Logs other chosen classes without objects.

    Args:
      class_names: the chosen classes.
      occurring: the classes with objects in the data.
      origin: the data, for the message.

    Raises:
      UserError: there is a similar name; the message names both classes.
    """
    occurring = set(occurring)
    absent = [name for name in class_names if name not in occurring]
    for name in absent:
        near = nearest(name, occurring - set(class_names))
        if near:
            raise UserError(
                f"config.data.classes names the class {name!r}, but {origin} has no object of it: "
                f"did you mean {near!r}?"
            )
    if absent:
        logger.warning("%s has no object of the class %s", origin, first_names(absent, 20))


def check_known(names: Iterable[str], known: Iterable[str], field: str, origin: str) -> None:
    """Rejects names of classes that the data does not have.

    Args:
      names: the names in a field of the config.
      known: the classes that occur in the data or are declared there.
      field: the field, for the message.
      origin: the data, for the message.

    Raises:
      UserError: a name is unknown; the message suggests a similar one.
    """
    known = sorted(set(known))
    for name in names:
        if name not in known:
            near = nearest(name, known)
            hint = f": did you mean {near!r}?" if near else ""
            listed = first_names(known, 20)
            raise UserError(
                f"{field} names the class {name!r}, but {origin} has no such class{hint} "
                f"(it has {listed or 'none'})"
            )
