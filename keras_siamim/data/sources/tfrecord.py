"""The TFRecord format, read by hand where TensorFlow's reader gives up: at the first damaged record of a file.

A record is its length (uint64, little endian), the length's checksum, the data, the data's checksum; checksums are
CRC-32C, rotated by 15 bits plus a constant. Damaged data cost one record. Behind a damaged length nothing can be
found any more, so the rest of the file is lost.
"""

import functools
import struct

import tensorflow as tf

HEADER, FOOTER = 12, 4
POLYNOMIAL = 0x82F63B78


@functools.cache
def _table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return table


def checksum(data):
    """Masked CRC-32C of some bytes, as TFRecords hold it.

    Example:
    >>> hex(checksum(b"123456789"))  # CRC-32C of these is 0xe3069283
    '0xc78ab0e5'
    """
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def open_bytes(path):
    """Open a file for reading, unbuffered where it is local: headers lie far apart."""
    return tf.io.gfile.GFile(path, "rb") if "://" in path else open(path, "rb", buffering=0)


def compression(path):
    """Return the name of the compression that a file's first bytes tell, `"GZIP"` or `"ZLIB"`, or None."""
    with open_bytes(path) as file:
        head = file.read(HEADER)
    if head[:2] == b"\x1f\x8b":
        return "GZIP"
    whole = len(head) == HEADER and checksum(head[:8]) == struct.unpack("<I", head[8:])[0]
    return (
        "ZLIB" if not whole and head[:1] == b"\x78" and head[:2] and int.from_bytes(head[:2], "big") % 31 == 0 else None
    )


def scan(path):
    """Find the records of a file by their lengths, without reading their data.

    Args:
        path: of the file.

    Returns:
        offsets: list of ints, where each record begins; the last one may be cut off.
        end: where the last of them ends, or the file does.
        lost: how many bytes behind them belong to no record that can be found.
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


def read_record(path, number):
    """Read one record by its number, its checksum verified.

    Raises:
        ValueError: it is damaged, cut off, or lies behind a damaged length; says which.
    """
    offsets = _remembered_scan(path)[0]
    if number >= len(offsets):
        raise ValueError("record lost: the file is damaged or cut off before it")
    with open_bytes(path) as file:
        file.seek(offsets[number])
        (length,) = struct.unpack("<Q", file.read(HEADER)[:8])
        data = file.read(length + FOOTER)
    if len(data) < length + FOOTER:
        raise ValueError(f"record cut off: {len(data)} of {length + FOOTER} bytes are there")
    if checksum(data[:length]) != struct.unpack("<I", data[length:])[0]:
        raise ValueError("record damaged: its checksum is wrong")
    return data[:length]


# Only damaged files come here, and every record behind the damage does.
_remembered_scan = functools.lru_cache(maxsize=64)(scan)
