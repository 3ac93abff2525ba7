"""
Writes frame_golden.json: small framed files made from docs/format.md alone, independent of the library.

    python tests/container/make_frame_golden.py > tests/container/frame_golden.json
"""

import json
import struct
import zlib


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def sealed(data: bytes) -> bytes:
    return data + struct.pack("<I", crc32c(data))


def record_fields(tag: str, chunk: int, tokens: int, codec: int, raw_length: int, stored: bytes) -> bytes:
    lengths = struct.pack("<QQI", raw_length, len(stored), crc32c(stored))
    return tag.encode() + struct.pack("<IIB3x", chunk, tokens, codec) + lengths


def framed(kind: str, header: dict, records: list) -> bytes:
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    out = sealed(b"\x89KVZ" + kind.encode() + b"\r\n\x1a" + struct.pack("<HHI", 1, 0, len(text)) + text)
    index = b""
    for *head, stored in records:
        fields = record_fields(*head, stored)
        index += fields + struct.pack("<Q", len(out))
        out += sealed(fields) + stored
    index_offset = len(out)
    out += sealed(record_fields("INDX", 0, 0, 0, len(index), index)) + index
    return out + sealed(struct.pack("<QQ", index_offset, len(out) + 24) + b"KVZE")


def deflate(data: bytes) -> bytes:
    codec = zlib.compressobj(9, zlib.DEFLATED, -15)
    return codec.compress(data) + codec.flush()


zeros = bytes(1000)
files = {
    "cache": framed("C", {"name": "é", "a": [1, True, None]}, [("KCOD", 7, 256, 1, 1000, deflate(zeros)), ("IDS ", 0, 2, 0, 8, bytes(range(8)))]),
    "profile": framed("P", {}, []),
    "statistics": framed("S", {"b": 1, "B": 2}, [("GRAM", 2**32 - 1, 0, 0, 0, b"")]),
}
print(json.dumps({kind: data.hex() for kind, data in files.items()}, indent=2))
