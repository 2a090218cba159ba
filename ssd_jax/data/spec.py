"""The grammar of data sources: FORMAT:ARGUMENT:…, or a folder or file, several joined by commas.

A path may contain commas and colons. Double quotes make its end clear:

    voc_xml:"a folder, with: signs":train

A colon before `//` (gs://bucket) and the colon of a drive (C:\\data) do not separate arguments.
"""

import re
from collections.abc import Callable

from ssd_jax.errors import UserError

# Text without separators: quotes, and slices of TFDS like train[:10%].
WHOLE = re.compile(r'"[^"]*"|\[[^\]]*\]')


def split_outside_quotes(text: str, sign: str) -> list[str]:
    """Splits at a sign outside double quotes; the quotes are kept.

    Raises:
      UserError: a quote is not closed.
    """
    if text.count('"') % 2:
        raise UserError(f"{text} has a double quote that is not closed: write two or none")
    pieces, piece = [], ""
    for part in re.split(r'("[^"]*")', text):
        if part.startswith('"'):
            piece += part
            continue
        first, *others = part.split(sign)
        piece += first
        for other in others:
            pieces.append(piece)
            piece = other
    return [*pieces, piece]


def unquoted(text: str) -> str:
    """A text without its double quotes."""
    return text.replace('"', "")


def compose(name: str, *arguments: object) -> str:
    """The source of a format with these arguments, quoted if necessary."""
    return ":".join([name, *(quoted(str(argument)) for argument in arguments)])


def quoted(argument: str) -> str:
    """An argument, in double quotes if it contains commas or colons."""
    return f'"{argument}"' if re.search("[,:]", argument) else argument


def split_arguments(text: str, count: int) -> list[str] | None:
    """The arguments of a source, without quotes; None if there are too few.

    The first argument may contain colons without quotes.

    Args:
      text: the text after `FORMAT:`.
      count: the number of arguments.
    """
    hidden = WHOLE.sub(lambda found: "\0" * len(found[0]), text)
    colons = [
        found.start()
        for found in re.finditer(r":(?!//)", hidden)
        if not re.search(r"(?:^|[:])[A-Za-z]$", hidden[: found.start()])
        or hidden[found.end() : found.end() + 1] not in ("/", "\\")
    ]
    chosen = colons[len(colons) - (count - 1) :] if count > 1 else []
    if len(chosen) < count - 1:
        return None
    starts, ends = [0, *(place + 1 for place in chosen)], [*chosen, len(text)]
    arguments = [unquoted(text[start:end]).strip() for start, end in zip(starts, ends, strict=True)]
    return arguments if all(arguments) else None


def split_sources(
    spec: str, begins: Callable[[str], bool], is_whole: Callable[[str], bool]
) -> list[str]:
    """Splits a spec into its sources, at commas.

    A comma belongs to a path if the text before it is not a complete source, and the text after it
    does not begin a source.

    Args:
      spec: one or several sources.
      begins: whether a text begins a source.
      is_whole: whether a text is a complete source with existing files.

    Raises:
      UserError: a quote is not closed.
    """
    sources: list[str] = []
    for piece in split_outside_quotes(spec, ","):
        if sources and not is_whole(sources[-1].strip()) and not begins(piece.strip()):
            sources[-1] += f",{piece}"
        else:
            sources.append(piece)
    return [source.strip() for source in sources]
