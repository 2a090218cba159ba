"""The checksum CRC-32C (Castagnoli) of TFRecord files, in NumPy."""

import functools

import numpy as np

POLYNOMIAL = 0x82F63B78  # with its bits reversed
LANE_BYTES = 64


def masked_crc32c(content: bytes | memoryview) -> int:
    """The checksum of bytes, masked as in TFRecord files."""
    crc = crc32c(content)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(content: bytes | memoryview) -> int:
    """The checksum of bytes.

    The bytes are divided into lanes. The checksums of the lanes are computed in parallel and then
    combined in pairs. The checksum is linear: extend the checksum of the first lane by zeros of the
    length of the second lane, then XOR it with the checksum of the second.
    """
    start = np.uint32(0xFFFFFFFF)
    if len(content) < 2 * LANE_BYTES:
        crc, table = int(start), _tables()[0]
        for byte in bytes(content):
            crc = int(table[(crc ^ byte) & 0xFF]) ^ (crc >> 8)
        return crc ^ 0xFFFFFFFF
    # With the start value XORed into the content, zeros before the first byte change nothing.
    num_lanes = -(-len(content) // LANE_BYTES)
    padded = np.zeros(num_lanes * LANE_BYTES, np.uint8)
    padded[-len(content) :] = np.frombuffer(content, np.uint8)
    padded[-len(content) :][:4] ^= np.full(1, start).view(np.uint8)
    words = padded.view("<u2").reshape(num_lanes, -1).T
    lanes, table = np.zeros(num_lanes, np.uint32), _tables()[1]
    for word in np.ascontiguousarray(words):
        lanes = table[(lanes ^ word) & 0xFFFF] ^ (lanes >> np.uint32(16))
    level = 0
    while len(lanes) > 1:
        if len(lanes) % 2:
            lanes = np.concatenate([np.zeros(1, np.uint32), lanes])
        lanes = _extended(lanes[0::2], level) ^ lanes[1::2]
        level += 1
    return int(lanes[0] ^ start)


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """The checksums of all values of 8 bits `[256]` and of 16 bits `[65536]`."""
    tables = []
    for bits in (8, 16):
        values = np.arange(2**bits, dtype=np.uint32)
        for _ in range(bits):
            values = (values >> np.uint32(1)) ^ np.where(values & 1, np.uint32(POLYNOMIAL), 0)
        tables.append(values.astype(np.uint32))
    return tables[0], tables[1]


@functools.cache
def _extension(level: int) -> np.ndarray:
    """`[4, 256]`: each byte of a checksum, extended by `LANE_BYTES * 2**level` zeros."""
    values = np.arange(256, dtype=np.uint32)[None] << np.array([[0], [8], [16], [24]], np.uint32)
    if level:
        return _extended(_extended(values, level - 1), level - 1)
    for _ in range(LANE_BYTES // 2):
        values = _tables()[1][values & 0xFFFF] ^ (values >> np.uint32(16))
    return values


def _extended(crcs: np.ndarray, level: int) -> np.ndarray:
    """Checksums extended by `LANE_BYTES * 2**level` zeros."""
    table = _extension(level)
    result = table[0][crcs & 0xFF]
    for byte in (1, 2, 3):
        result = result ^ table[byte][(crcs >> np.uint32(8 * byte)) & 0xFF]
    return result
