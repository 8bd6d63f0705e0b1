"""Values that are a function of a seed and of names: no shared random state, no clock, the same on every machine."""

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

T = TypeVar("T")
CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Seed:
    """A place in the tree of names below one seed; each draw hashes the path of names that leads to it."""

    path: str

    @classmethod
    def of(cls, value: int | str) -> "Seed":
        """The root of the tree of `value`."""
        return cls(str(value))

    def child(self, *names: object) -> "Seed":
        """The place below this one that `names` lead to."""
        return Seed("/".join((self.path, *map(str, names))))

    def hex(self, name: object, length: int = 32) -> str:
        """`length` hexadecimal digits, at most 128."""
        return hashlib.blake2b(f"{self.path}/{name}".encode()).hexdigest()[:length]

    def integer(self, name: object, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self.hex(name, 15), 16) % (high - low + 1)

    def choice(self, name: object, options: Sequence[T]) -> T:
        """One of `options`."""
        return options[self.integer(name, 0, len(options) - 1)]

    def shuffled(self, name: object, values: Iterable[T]) -> list[T]:
        """`values` in an order of this name's own."""
        return [value for _, value in sorted(enumerate(values), key=lambda pair: self.hex(f"{name}/{pair[0]}"))]

    def chunks(self, size_bytes: int) -> Iterator[bytes]:
        """`size_bytes` bytes that do not compress, in pieces of at most `CHUNK_BYTES`."""
        for start in range(0, size_bytes, CHUNK_BYTES):
            wanted = min(CHUNK_BYTES, size_bytes - start)
            yield hashlib.shake_128(f"{self.path}/{start}".encode()).digest(wanted)


class ChunkStream(io.RawIOBase):
    """Chunks of bytes as a readable file, one chunk in memory at a time."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]  # the stub's Buffer is 3.12
        """Fill `buffer` from the next chunk; 0 at the end."""
        self._rest = self._rest or next(self._chunks, b"")
        piece, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a generated archive: its bytes, or the seed and size of bytes that are made as they are read."""

    path: str
    content: bytes | tuple[Seed, int]

    @property
    def size_bytes(self) -> int:
        """How many bytes `chunks` yields."""
        return len(self.content) if isinstance(self.content, bytes) else self.content[1]

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in pieces."""
        if isinstance(self.content, bytes):
            yield self.content
        else:
            seed, size_bytes = self.content
            yield from seed.chunks(size_bytes)

    def open(self) -> BinaryIO:
        """The bytes, as a readable file."""
        if isinstance(self.content, bytes):
            return io.BytesIO(self.content)
        return io.BufferedReader(ChunkStream(self.chunks()))
