"""Object stores: lists and copies the objects at `gs://…` and `s3://…`, with gcsfs and s3fs.

Objects are not files: they cannot be appended to or locked, and a folder is only a prefix of their
names. So no object is opened directly: objects are copied to local files, and changed files are
copied back whole (`copies.py`). A write replaces its object in one step.
"""

import contextlib
import datetime
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ssd_jax.errors import NO_SPACE, UserError, shown
from ssd_jax.storage.clients import file_system

REMOTE = re.compile(r"(gs|s3)://([^/]+)(?:/+(.*))?", re.DOTALL)
CREDENTIALS = {
    "gs": "`gcloud auth application-default login`, or GOOGLE_APPLICATION_CREDENTIALS",
    "s3": "`aws configure`, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
}
# Names or texts of errors when the store does not accept the credentials.
NO_CREDENTIALS = re.compile(
    "credential|anonymous|token|forbidden|unauthorized|access ?denied|InvalidAccessKey|Signature",
    re.IGNORECASE,
)


class Object(NamedTuple):
    """An object of a store.

    Attributes:
      size: in bytes.
      mark: changes whenever the object is replaced.
    """

    size: int
    mark: str


def is_remote(place: object) -> bool:
    """Whether a path that a user named is in an object store."""
    return isinstance(place, str) and place.startswith(("gs://", "s3://"))


def parts_of(place: str) -> tuple[str, str, str]:
    """Scheme, bucket and key, the latter without slashes at its ends.

    Raises:
      UserError: the bucket is missing, or the key could lead out of a folder of copies.
    """
    found = REMOTE.fullmatch(place)
    if not found:
        raise UserError(f"{place} names no bucket: write {place.partition('://')[0]}://BUCKET/PATH")
    scheme, bucket, key = found[1], found[2], (found[3] or "").strip("/")
    if {bucket, *key.split("/")} & {"..", "."} or "//" in key or "\0" in key:
        raise UserError(f"{place} has a part that is empty, . or ..: leave it out")
    return scheme, bucket, key


def objects_at(place: str) -> dict[str, Object]:
    """The object at a place, by the name "", and those below it, by their relative paths.

    Raises:
      UserError: the store cannot be reached, or there is no such bucket.
    """
    scheme, bucket, key = parts_of(place)
    path = f"{bucket}/{key}".rstrip("/")
    with answering(place):
        found: Mapping[str, Any] = file_system(scheme).find(path, detail=True)
    objects = {}
    for name, about in found.items():
        inside = name.removeprefix(path).removeprefix("/")
        if name.endswith("/") or about.get("type") == "directory":
            continue  # made by some tools for an empty folder
        if inside and {"..", ".", ""} & set(inside.split("/")):
            raise UserError(f"{place} holds an object called {shown(inside)}: rename it")
        objects[inside] = Object(int(about.get("size") or 0), _mark(about))
    return objects


def _mark(about: Mapping[str, Any]) -> str:
    """The mark of an object, from its entry in a listing; "" = unknown.

    An ETag may depend on the content alone. Then it does not show that an object was replaced, read
    meanwhile, and restored.
    """
    written = about.get("LastModified")  # of S3
    version = about.get("generation") or (written.timestamp() if written else "")
    return f"{about.get('etag') or about.get('ETag') or ''} {version}".strip()


def exists(place: str) -> bool:
    """Whether there is an object at a place; see `objects_at`."""
    return "" in objects_at(place)


def age_of(place: str) -> float | None:
    """Seconds since an object was written; None if there is none."""
    scheme, bucket, key = parts_of(place)
    try:
        with answering(place):
            written = file_system(scheme).modified(f"{bucket}/{key}")
    except MissingError:
        return None
    return (datetime.datetime.now(datetime.UTC) - written).total_seconds()


def fetch(place: str, folder: Path, names: Sequence[str]) -> None:
    """Copies objects below a place to files of the same names below a folder; see `objects_at`."""
    scheme, bucket, key = parts_of(place)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    if names:
        sources = ["/".join(filter(None, (bucket, key, name))) for name in names]
        with answering(place):
            file_system(scheme).get(sources, [str(folder / name) for name in names])


def send(folder: Path, place: str, names: Sequence[str]) -> None:
    """Copies files below a folder to objects of the same names below a place.

    Raises:
      UserError: the store cannot be reached or refuses.
      OSError: a file cannot be read.
    """
    scheme, bucket, key = parts_of(place)
    if names:
        targets = ["/".join(filter(None, (bucket, key, name))) for name in names]
        for name in names:
            (folder / name).stat()  # a missing local file is not an error of the store
        with answering(place):
            file_system(scheme).put([str(folder / name) for name in names], targets)


def read(place: str) -> bytes | None:
    """The bytes of an object; None if there is none."""
    scheme, bucket, key = parts_of(place)
    try:
        with answering(place):
            return file_system(scheme).cat_file(f"{bucket}/{key}")
    except MissingError:
        return None


def read_range(place: str, offset: int, length: int) -> bytes:
    """Some bytes of an object, fewer if it ends before; `ranges.py` reads many at once.

    Raises:
      MissingError: there is no such object.
      UserError: the store cannot be reached or refuses.
    """
    scheme, bucket, key = parts_of(place)
    with answering(place):
        return file_system(scheme).cat_file(f"{bucket}/{key}", start=offset, end=offset + length)


def write(place: str, content: bytes) -> None:
    """Writes an object; see `send`."""
    scheme, bucket, key = parts_of(place)
    with answering(place):
        file_system(scheme).pipe_file(f"{bucket}/{key}", content)


def remove(place: str, names: Sequence[str]) -> None:
    """Removes the named objects below a place, if they exist."""
    scheme, bucket, key = parts_of(place)
    for name in names:
        with contextlib.suppress(MissingError), answering(place):
            file_system(scheme).rm_file("/".join(filter(None, (bucket, key, name))))


class MissingError(UserError):
    """There is no such object, or no such bucket."""


@contextlib.contextmanager
def answering(place: str) -> Iterator[None]:
    """A block in which errors of a store become a `UserError` of one line.

    Args:
      place: for the message.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        scheme, bucket, _ = parts_of(place)
        raise MissingError(
            f"{place} does not exist, or there is no bucket {bucket} that these credentials can "
            f"see: check both names, with `{_lister(scheme)} {scheme}://{bucket}/`"
        ) from error
    except Exception as error:  # of gcsfs, s3fs, google-auth, botocore, aiohttp
        # An error of a local file, for example a full disk.
        number = error.errno if isinstance(error, OSError) else None
        if number in NO_SPACE or (number and getattr(error, "filename", None)):
            raise
        scheme, _, _ = parts_of(place)
        said = f"{type(error).__name__}: {error}"
        if isinstance(error, PermissionError) or NO_CREDENTIALS.search(said):
            fix = f"give credentials that may read and write there: {CREDENTIALS[scheme]}"
        else:
            fix = "check the name and the network, and try again"
        # Of several lines the first may say nothing: "Parameter validation failed:".
        words = textwrap.shorten(str(error), 300).lstrip(", ")  # gcsfs writes ", 503"
        no_words = "it does not answer" if isinstance(error, TimeoutError) else type(error).__name__
        reason = words or no_words
        raise UserError(f"{place} cannot be reached: {reason}; {fix}") from error


def _lister(scheme: str) -> str:
    return "gcloud storage ls" if scheme == "gs" else "aws s3 ls"


def file_name(place: str) -> str:
    """The last part of a place, or the name of its bucket."""
    _, bucket, key = parts_of(place)
    return PurePosixPath(key).name or bucket
