"""The boxes of an MP4 (ISO/IEC 14496-12, section 4.2)."""

C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""What the box of a C2PA manifest begins with (C2PA 2.2, section A.5)."""


def unsigned(mp4: bytes) -> bytes:
    """All boxes of a file but that of its manifest, which tells of its own time and number."""
    kept, place = [], 0
    while place < len(mp4):
        size = int.from_bytes(mp4[place : place + 4], "big")
        assert size >= 8
        if mp4[place + 8 : place + 24] != C2PA:
            kept.append(mp4[place : place + size])
        place += size
    assert sum(map(len, kept)) < len(mp4), "it is not signed"
    return b"".join(kept)
