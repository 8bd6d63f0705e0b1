"""Speed and memory of the Open edX archive reader (`pytest -m benchmark`)."""

import gzip
import io
import random
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ol_openedx.archive import digest_archive, read_archive

pytestmark = pytest.mark.benchmark

MIB = 1024**2


def course(units: int) -> dict[str, bytes]:
    """A course of `units` verticals, each with a problem, an html block and its body, and a video."""
    chosen = random.Random(1)
    words = [f"word{number}" for number in range(3000)]

    def text(count: int) -> str:
        return " ".join(chosen.choices(words, k=count))

    tree = {"course.xml": b'<course url_name="R" org="O" course="C"/>'}
    pointers = []
    for number in range(units):
        name = f"{number:032x}"
        choices = "".join(f'<choice correct="false">{text(8)}</choice>' for _ in range(12))
        problem = f'<problem display_name="P" markdown="{text(150)}"><p>{text(150)}</p>{choices}</problem>'
        tree[f"problem/{name}.xml"] = problem.encode()
        tree[f"html/{name}.xml"] = f'<html filename="{name}" display_name="{text(4)}"/>'.encode()
        tree[f"html/{name}.html"] = f"<p>{text(800)}</p>".encode()
        tree[f"video/{name}.xml"] = f'<video><source src="{name}.mp4"/><video_asset duration="9"/></video>'.encode()
        children = "".join(f'<{kind} url_name="{name}"/>' for kind in ("problem", "html", "video"))
        tree[f"vertical/{name}.xml"] = f'<vertical display_name="V">{children}</vertical>'.encode()
        pointers.append(f'<vertical url_name="{name}"/>')
    inline = f'<chapter url_name="c"><sequential url_name="s">{"".join(pointers)}</sequential></chapter>'
    tree["course/R.xml"] = f"<course>{inline}</course>".encode()
    return tree


def write_archive(path: Path, tree: dict[str, bytes], static: Iterator[tuple[str, bytes]]) -> Path:
    """Pack a course with static files, which are made one at a time."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in tree.items():
            _add(tar, name, content)
        for name, content in static:
            _add(tar, f"static/{name}", content)
    return path


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    header = tarfile.TarInfo(f"course/{name}")
    header.size = len(content)
    tar.addfile(header, io.BytesIO(content))


def static_files(count: int, size_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Files whose bytes are as compressible as those of images and documents: little, but Huffman-coded."""
    chosen = random.Random(2)
    noise = bytes(min(255, int(abs(chosen.gauss(0, 60)))) for _ in range(MIB))
    for number in range(count):
        start = chosen.randrange(MIB // 2)
        content = (noise[start:] + noise) * (size_bytes // MIB + 1)
        yield f"{number}.png", content[:size_bytes]


def best_seconds(action: Callable[[], object]) -> float:
    """The quickest of seven."""
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def test_reading_costs_little_more_than_decompressing(tmp_path: Path) -> None:
    tree = course(units=135)
    path = write_archive(tmp_path / "course.tar.gz", tree, static_files(124, 150_000))
    data = path.read_bytes()

    def decompress() -> None:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            while stream.read(64 * 1024):
                pass

    def read() -> None:
        read_archive(io.BytesIO(data), name="x", write=lambda _kind, _rows: None)

    bare = best_seconds(decompress)
    reading = best_seconds(read) / bare
    digesting = best_seconds(lambda: digest_archive(io.BytesIO(data), name="x")) / bare
    print(  # noqa: T201 - a benchmark reports
        f"\n{len(data) / MIB:.1f} MiB, {len(tree) + 124} members: gunzip {bare * 1000:.0f} ms, "
        f"read_archive {reading:.2f} times that, digest_archive {digesting:.2f} times"
    )
    assert reading < 4
    assert digesting < 3


def peak_bytes(path: Path) -> int:
    """Peak resident memory of a process that does nothing but read one archive.

    From /proc: `ru_maxrss` starts at what the parent process had.
    """
    program = (
        "import pathlib, sys\n"
        "from ol_openedx.archive import read_archive\n"
        "with open(sys.argv[1], 'rb') as stream:\n"
        "    read_archive(stream, name='x', write=lambda kind, rows: None)\n"
        "print(pathlib.Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])\n"
    )
    result = subprocess.run([sys.executable, "-c", program, str(path)], check=True, capture_output=True, text=True)
    return int(result.stdout) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize(
    ("small", "large", "allowed_mib"),
    [
        pytest.param((100, 100_000), (100, 2_000_000), 2, id="bytes of static files, 20 times"),
        pytest.param((1_000, 500), (20_000, 500), 6, id="number of static files, 20 times"),
    ],
)
def test_memory_does_not_grow_with_static_files(
    tmp_path: Path, small: tuple[int, int], large: tuple[int, int], allowed_mib: int
) -> None:
    tree = course(units=50)
    peaks = []
    for index, (count, size_bytes) in enumerate((small, large)):
        path = write_archive(tmp_path / f"{index}.tar.gz", tree, static_files(count, size_bytes))
        peaks.append(peak_bytes(path))
    grown = (peaks[1] - peaks[0]) / MIB
    print(f"\npeak {peaks[0] / MIB:.1f} MiB, then {peaks[1] / MIB:.1f} MiB")  # noqa: T201 - a benchmark reports
    assert grown < allowed_mib
