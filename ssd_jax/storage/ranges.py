"""Ranges of objects, many of them requested at the same time, with TensorStore.

Its clients are C++. A request costs 0.1 ms of CPU time, and neither a thread nor Python's lock
while it waits; gcsfs and s3fs take two and eight times as long. These still read what TensorStore
cannot read: they know more kinds of credentials, wait longer for a store that does not answer, and
`clouds.py` explains their errors. Objects are listed, copied and written by them alone.
"""

import functools
import os
import re
import urllib.parse
from collections.abc import Callable
from typing import Any

from ssd_jax.storage import clouds
from ssd_jax.storage.clients import CONNECTIONS, file_system

# Pauses of 0.05, 0.1, 0.2 and 0.4 s, before gcsfs or s3fs takes over.
RETRIES = {"initial_delay": "50ms", "max_delay": "400ms", "max_retries": 5}
PATIENCE = 60.0  # seconds until a request counts as failed, of a store that stops answering
# In the messages of TensorStore when an object is shorter than the range.
BEYOND_END = re.compile("OUT_OF_RANGE")
MOST_OPEN = 64  # buckets, each with the credentials of some time


def request_range(place: str, offset: int, length: int) -> Callable[[], bytes]:
    """Requests some bytes of an object.

    Returns:
      A function that waits for the bytes and returns them, or fewer, or none, if the object ends
      before. It raises a `MissingError` if there is no such object, and a `UserError` if the store
      cannot be reached or refuses.
    """
    try:
        scheme, bucket, key = clouds.parts_of(place)
        store = (_google if scheme == "gs" else _amazon)(bucket)
        future = store.read(key, byte_range=slice(offset, offset + length))
    except Exception:  # of google-auth, botocore, TensorStore
        future = None

    def wait() -> bytes:
        try:
            found = future.result(timeout=PATIENCE) if future else None
        except Exception as error:  # TensorStore raises ValueError for most errors
            if BEYOND_END.search(str(error)):
                return b""
            found = None
        if found is not None and found.state == "value":
            return found.value
        return clouds.read_range(place, offset, length)

    return wait


def _google(bucket: str) -> Any:
    """A bucket of Google Cloud Storage, with the address and the credentials of gcsfs."""
    client = file_system("gs")
    headers = {}
    client.credentials.apply(headers)
    address = client.base.removesuffix("/storage/v1/")
    lines = tuple(f"{name}: {value}" for name, value in headers.items())
    return _opened_google(f"{address}/{urllib.parse.quote(bucket)}/", lines)


@functools.lru_cache(MOST_OPEN)
def _opened_google(address: str, headers: tuple[str, ...]) -> Any:
    import tensorstore

    spec = {"driver": "http", "base_url": address, "headers": list(headers)}
    return tensorstore.KvStore.open(spec, context=_context()).result()


@functools.lru_cache(MOST_OPEN)
def _amazon(bucket: str) -> Any:
    """A bucket of Amazon S3, or of the server that s3fs asks."""
    import tensorstore

    spec: dict[str, Any] = {"driver": "s3", "bucket": bucket}
    if "AWS_ACCESS_KEY_ID" in os.environ:  # otherwise it logs that there is no ~/.aws/config
        spec["aws_credentials"] = {"type": "environment"}
    about = file_system("s3").s3.meta
    if "amazonaws.com" not in about.endpoint_url:
        spec |= {"endpoint": about.endpoint_url, "aws_region": about.region_name or "us-east-1"}
    return tensorstore.KvStore.open(spec, context=_context()).result()


@functools.cache
def _context() -> Any:
    import tensorstore

    kinds = ("http", "s3")
    limits = {f"{kind}_request_concurrency": {"limit": CONNECTIONS} for kind in kinds}
    return tensorstore.Context(limits | {f"{kind}_request_retries": RETRIES for kind in kinds})


def forget_clients() -> None:
    """Makes new clients at the next request, for other addresses or credentials."""
    for cached in (file_system, _opened_google, _amazon, _context):
        cached.cache_clear()
