"""The frame of a record in a TFRecord file: length, its checksum, content, its checksum."""

from ssd_jax.data.formats.crc32c import masked_crc32c

LENGTH_BYTES, CHECKSUM_BYTES = 8, 4
HEADER_BYTES = LENGTH_BYTES + CHECKSUM_BYTES
FRAME_BYTES = HEADER_BYTES + CHECKSUM_BYTES


def header_of(length: int) -> bytes:
    """The bytes before the content of a record with this length."""
    encoded = length.to_bytes(LENGTH_BYTES, "little")
    return encoded + checksum(encoded)


def length_in(header: bytes) -> int:
    """The length of the content, in the header of a record or its beginning."""
    return int.from_bytes(header[:LENGTH_BYTES], "little")


def checksum(content: bytes) -> bytes:
    """The checksum of a length or a content, in the form of the file."""
    return masked_crc32c(content).to_bytes(CHECKSUM_BYTES, "little")
