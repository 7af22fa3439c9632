"""A zip archive whose members lie bare and one behind the other, so that a tensor in it is a range of the file."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

from zhen.errors import ZhenError

_LOCAL = struct.Struct("<4s5H3I2H")
_DESCRIPTOR = b"PK\x07\x08"
_END = b"PK\x05\x06"
_HAS_DESCRIPTOR, _UTF8 = 1 << 3, 1 << 11


class Member(NamedTuple):
    """A member: its bytes are begin … end of the archive, uncompressed."""

    name: str
    begin: int
    end: int
    crc: int


def members(file: Path) -> dict[str, Member]:
    """The members of a zip archive by name, as both its central directory and the header before each state them.

    Raises ZhenError for compressed or encrypted members, a name twice, headers that differ, bytes that belong to no
    member, anything in front of the first or behind the directory, and a broken archive: zip readers differ in what
    they make of those, and a file must not be one thing to us and another to the next.
    """
    try:
        with file.open("rb") as opened, zipfile.ZipFile(opened) as archive:
            size = opened.seek(0, 2)
            opened.seek(size - 22)
            if opened.read(4) != _END or archive.comment:
                raise ZhenError("bytes behind the archive's end", expected="none", file=file, rule="zip.trailing")
            found: dict[str, Member] = {}
            at = 0
            for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
                if info.filename in found:
                    raise ZhenError(f"member {_shown(info)} twice", file=file, rule="zip.duplicate")
                if info.header_offset != at:
                    found_at = f"member {_shown(info)} begins at {info.header_offset}"
                    raise ZhenError(found_at, expected=f"{at}", file=file, rule="zip.gap")
                begin, at = _member(opened, info, file)
                found[info.filename] = Member(info.filename, begin, begin + info.file_size, info.CRC)
            if at != archive.start_dir:
                behind = f"{archive.start_dir - at} bytes behind the last member"
                raise ZhenError(behind, expected="none", file=file, rule="zip.gap")
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, EOFError) as error:
        raise ZhenError(f"a damaged zip archive ({error})", file=file, rule="zip.broken") from error
    return found


def read_member(file: Path, member: Member) -> bytes:
    """The bytes of a member, whose checksum is compared. Raises ZhenError where it differs."""
    with file.open("rb") as opened:
        opened.seek(member.begin)
        data = opened.read(member.end - member.begin)
    if zlib.crc32(data) != member.crc:
        raise ZhenError("another checksum than stated", file=file, place=f"member {member.name!r}", rule="zip.checksum")
    return data


def _member(opened: BinaryIO, info: zipfile.ZipInfo, file: Path) -> tuple[int, int]:
    """(offset of a member's bytes, offset behind all that belongs to it), both headers compared."""
    place = f"member {_shown(info)}"
    if info.compress_type or info.compress_size != info.file_size:
        raise ZhenError("a compressed member", expected="stored bytes", file=file, place=place, rule="zip.compressed")
    if info.flag_bits & ~(_HAS_DESCRIPTOR | _UTF8):
        found = f"flags {info.flag_bits:#x}"
        raise ZhenError(found, expected="no encryption and the like", file=file, place=place, rule="zip.flags")
    opened.seek(info.header_offset)
    magic, _, flags, method, _, _, crc, packed, full, name_length, extra_length = _LOCAL.unpack(opened.read(30))
    name = opened.read(name_length)
    extra = opened.read(extra_length)
    if len(extra) != extra_length:
        raise ZhenError("a cut header", file=file, place=place, rule="zip.broken")
    encoded = info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437")
    begin = info.header_offset + 30 + name_length + extra_length
    end = begin + info.file_size
    agree = magic == b"PK\x03\x04" and flags == info.flag_bits and method == info.compress_type and name == encoded
    if flags & _HAS_DESCRIPTOR:
        at, stated = _descriptor(opened, info, end)
        # the local header may leave these to the descriptor
        agree &= crc in (0, info.CRC) and {packed, full} <= {0, 0xFFFFFFFF, info.file_size}
    else:
        at, stated = end, (crc, _long(packed, extra), _long(full, extra))
    agree &= stated == (info.CRC, info.file_size, info.file_size)
    if not agree or info.orig_filename != info.filename:
        found = "two headers that differ"
        raise ZhenError(found, expected="the same in the directory", file=file, place=place, rule="zip.headers")
    return begin, at


def _descriptor(opened: BinaryIO, info: zipfile.ZipInfo, end: int) -> tuple[int, tuple[int, int, int]]:
    """(offset behind the descriptor that follows a member's bytes, what it states: CRC, packed size, size)."""
    opened.seek(end)
    data = opened.read(24)
    for form in (struct.Struct("<4sIQQ"), struct.Struct("<4sIII")):
        if len(data) >= form.size:
            magic, *stated = form.unpack(data[: form.size])
            if magic == _DESCRIPTOR and stated == [info.CRC, info.file_size, info.file_size]:
                return end + form.size, (info.CRC, info.file_size, info.file_size)
    return end, (-1, -1, -1)


def _long(size: int, extra: bytes) -> int:
    """A size of a local header; where it is too large for that, from the zip64 field, whose two sizes must be equal."""
    at = 0
    while size == 0xFFFFFFFF and at + 20 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1 and length >= 16:
            full, packed = struct.unpack_from("<QQ", extra, at + 4)
            return int(full) if full == packed else -1
        at += 4 + length
    return size


def _shown(info: zipfile.ZipInfo) -> str:
    return repr(info.filename[:100])
