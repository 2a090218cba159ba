"""Run-time checks of annotations in tests: types by beartype, array shapes by jaxtyping."""

from beartype import BeartypeConf, beartype

# An int may stand for a float, as type checkers have it.
check_types = beartype(conf=BeartypeConf(is_pep484_tower=True))
