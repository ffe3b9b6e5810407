"""Opening a source file: decompressed and decoded text, or a refusal that says what the file is.

What is wrong with a file as a whole (cut off, compressed otherwise than its name says, a web page,
a pointer of Git LFS) is a `DataError` that names it, whichever library finds it out.
"""

import bz2
import codecs
import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import fsspec
import pyarrow as pa

from persyn_ray.errors import DataError, PersynError

HEAD_BYTES = 512
_CUT = "its compressed data ends too early: it was not copied or written to its end"
_KINDS = (  # how files begin, what they are, and the ending that says so
    (b"\x1f\x8b", "gzip data", ".gz"),
    (b"BZh", "bzip2 data", ".bz2"),
    (b"\xfd7zXZ\x00", "xz data", ".xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard data", ".zst"),
    (b"PAR1", "a parquet file", ".parquet"),
    (
        b"PK\x03\x04",
        "a ZIP archive or an Excel workbook: take the files out of it, or save its sheet as CSV",
        None,
    ),
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an old Excel workbook (.xls): save its sheet as CSV in UTF-8",
        None,
    ),
    (b"ARROW1", "an Arrow file", None),
    (b"Obj\x01", "an Avro file", None),
    (b"SQLite format 3", "an SQLite data base", None),
    (b"%PDF", "a PDF", None),
    (
        b"version https://git-lfs",
        "a pointer of Git LFS in place of the data (`git lfs pull`)",
        None,
    ),
    (b"<!doctype", "a web page", None),
    (b"<html", "a web page", None),
    (b"<?xml", "an XML document, such as a storage's refusal", None),
)
_TAR, _TAR_AT = b"ustar", 257
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Without a mark: which of the first four bytes are zero, for tables begin with letters of ASCII.
_UNMARKED: dict[tuple[bool, ...], str] = {
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
}


def _zstandard(raw: BinaryIO) -> Any:
    # Arrow reads all frames of a file and notices one that is cut, as Python's modules do.
    return pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")


COMPRESSIONS: dict[str, Callable[[Any], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _zstandard,
}


@contextmanager
def blamed(file: str) -> Iterator[None]:
    """Any failure to read a file as a `DataError` that names it.

    Decompressors, formats and storages have errors of their own.
    """
    try:
        yield
    except PersynError:
        raise
    except Exception as error:
        said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        is_cut = isinstance(error, EOFError) or "Truncated compressed" in said
        raise DataError(f"{file} cannot be read: {_CUT if is_cut else said}.") from error


def suffix_of(file: str) -> str:
    """The last ending of an address, in small letters; of a chain (`zip://a.csv::b.zip`) the first
    link's.
    """
    return Path(file.partition("::")[0].lower()).suffix


@contextmanager
def opened(file: str) -> Iterator[Any]:
    """The bytes of a file, as they lie.

    Raises:
        DataError: it is empty, or begins as no file of its name does.
    """
    with _raw(file) as handle:
        head = handle.read(HEAD_BYTES)
    why = _misnamed(head, suffix_of(file))
    if why is not None:
        raise DataError(f"{file} {why}.")
    with _raw(file) as handle:
        yield handle


@contextmanager
def opened_text(file: str) -> Iterator[TextIO]:
    """The text of a file, decompressed by its ending; UTF-8 unless a byte order mark says else.

    Bytes that are no UTF-8 become lone surrogates; line ends stay as they are.
    """
    with opened(file) as raw, _decompressed(file, raw) as plain:
        buffered = io.BufferedReader(plain)
        begin = buffered.peek(HEAD_BYTES)
        if begin[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
            raise DataError(f"{file} is a tar archive: take the files out of it.")
        with io.TextIOWrapper(buffered, _encoding(begin), "surrogateescape", newline="") as text:
            yield text


def _raw(file: str) -> Any:
    return fsspec.open(file, "rb")


def _decompressed(file: str, raw: Any) -> Any:
    suffix = suffix_of(file)
    return COMPRESSIONS[suffix](raw) if suffix in COMPRESSIONS else raw


def _encoding(head: bytes) -> str:
    marked = (encoding for mark, encoding in _ENCODINGS if head.startswith(mark))
    zeros = tuple(byte == 0 for byte in head[:4])
    return next(marked, _UNMARKED.get(zeros, "utf-8-sig"))


def _misnamed(head: bytes, suffix: str) -> str | None:
    """Why a file that begins like this cannot be what its ending says, or None."""
    if not head:
        return "is empty"
    begin = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for mark, what, ending in _KINDS:
        if head.startswith(mark) or (mark.startswith(b"<") and begin.startswith(mark)):
            if ending == suffix:
                return None
            hint = f": give its name the ending {ending}" if ending else ""
            return f"is {what}{hint}"
    needed = {ending: what for _, what, ending in _KINDS if ending not in (None, ".zst")}
    if suffix in needed:
        return f"is not {needed[suffix]}, as its name says; it begins with {head[:40]!r}"
    return None
