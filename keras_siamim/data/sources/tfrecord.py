"""Reader of the TFRecord format that continues after damaged records, where TensorFlow's reader stops.

A record consists of its length (uint64, little endian), the length's checksum, the data, and the data's checksum.
Checksums are CRC-32C, rotated by 15 bits, plus a constant. Damaged data cost one record. A damaged length costs the
rest of the file, because it is the only way to find the next record.
"""

import functools
import struct
from typing import IO, Any

import tensorflow as tf

HEADER, FOOTER = 12, 4
POLYNOMIAL = 0x82F63B78


@functools.cache
def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return table


def checksum(data: bytes) -> int:
    """Return the masked CRC-32C of some bytes, as TFRecords contain it.

    Example:
    >>> hex(checksum(b"123456789"))  # CRC-32C of these is 0xe3069283
    '0xc78ab0e5'
    """
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def open_bytes(path: str) -> IO[bytes] | Any:
    """Open a local file or a URL for reading."""
    # Local files without a buffer: headers are far apart.
    return tf.io.gfile.GFile(path, "rb") if "://" in path else open(path, "rb", buffering=0)


def compression(path: str) -> str | None:
    """Return the compression of a file by its first bytes, `"GZIP"` or `"ZLIB"`, or None."""
    with open_bytes(path) as file:
        head = file.read(HEADER)
    if head[:2] == b"\x1f\x8b":
        return "GZIP"
    is_record = len(head) == HEADER and checksum(head[:8]) == struct.unpack("<I", head[8:])[0]
    is_zlib = head[:1] == b"\x78" and head[:2] and int.from_bytes(head[:2], "big") % 31 == 0
    return "ZLIB" if not is_record and is_zlib else None


def scan(path: str) -> tuple[list[int], int, int]:
    """Find the records of a file by their lengths, without reading their data.

    Args:
        path: String. Path or URL of the file.

    Returns:
        offsets: List of integers. Start of each record in bytes; the last record may be truncated.
        end: Integer. End of the last record or of the file, in bytes.
        lost: Integer. Number of bytes after `end`, in which no record can be found.
    """
    size = tf.io.gfile.stat(path).length
    offsets, offset = [], 0
    with open_bytes(path) as file:
        while offset < size:
            file.seek(offset)
            header = file.read(HEADER)
            if len(header) < HEADER or checksum(header[:8]) != struct.unpack("<I", header[8:])[0]:
                break
            offsets.append(offset)
            offset += HEADER + struct.unpack("<Q", header[:8])[0] + FOOTER
    return offsets, min(offset, size), max(0, size - offset)


def read_record(path: str, index: int) -> bytes:
    """Read the data of one record and verify its checksum.

    Args:
        path: String. Path or URL of the file.
        index: Integer. Index of the record in the file.

    Returns:
        The data as bytes.

    Raises:
        ValueError: If the record is damaged, truncated, or follows a damaged length; the message is the reason.
    """
    offsets = _cached_scan(path)[0]
    if index >= len(offsets):
        raise ValueError("record lost: the file is damaged or truncated before it")
    with open_bytes(path) as file:
        file.seek(offsets[index])
        (length,) = struct.unpack("<Q", file.read(HEADER)[:8])
        data = file.read(length + FOOTER)
    if len(data) < length + FOOTER:
        raise ValueError(f"record truncated: the file has {len(data)} of its {length + FOOTER} bytes")
    if checksum(data[:length]) != struct.unpack("<I", data[length:])[0]:
        raise ValueError("record damaged: its checksum is wrong")
    return data[:length]


# Only damaged files are scanned for reading, once for all records after the damage.
_cached_scan = functools.lru_cache(maxsize=64)(scan)
