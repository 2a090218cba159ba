"""Videos larger than memory, and files that are not videos: rejected, or read in bounded memory."""

import functools
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tools.attacks.attack import Attack
from tools.attacks.measuring import check_refused, run_measured
from tools.attacks.special_files import BEFORE

KIND = "video bombs"
MOST_OF_8K = 1_500_000_000
MOST_REFERENCES = 5  # frames that a decoder of H.264 keeps at 8K
SECONDS = 300  # 8K takes seconds a frame on a busy machine


def write_frames(path: Path, sizes: list[tuple[int, int]], codec: str) -> None:
    """Writes gray frames of (width, height); image codecs allow changing sizes."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height = sizes[0]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "threads": "1", "refs": str(MOST_REFERENCES)}
        for width, height in sizes:
            frame: Any = av.VideoFrame(width, height, stream.pix_fmt)
            for plane in frame.planes:
                np.frombuffer(plane, np.uint8)[:] = 128
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def detect(folder: Path, source: str) -> str:
    """The statement that detects in a video."""
    output = str(folder / "out.mp4")
    detected = f"detect_in_video(detector, {source!r}, Path({output!r}), 8, lambda x: x)"
    return f"print(sum(1 for _ in {detected}))"


def of_8k(folder: Path) -> None:
    """The whole process stays within its limit, including imports."""
    write_frames(folder / "in.mp4", [(7680, 4320)] * 12, "libx264")
    work = detect(folder, str(folder / "in.mp4")) + "; print(status('VmHWM'))"
    printed, _ = run_measured(BEFORE, work, SECONDS)
    count, taken = map(int, printed.split())
    assert count == 12, printed
    assert taken < MOST_OF_8K, f"it took {taken:,} bytes"


def text(content: str, folder: Path) -> None:
    """A text file that names other files, with the name of a video."""
    (folder / "in.mp4").write_text(content)
    check_refused(BEFORE, detect(folder, str(folder / "in.mp4")))


def named(name: str, folder: Path) -> None:
    """Names that have a special meaning in FFmpeg."""
    check_refused(BEFORE, detect(folder, name))


def silent(answer: bytes, folder: Path) -> None:
    """A server that accepts a connection and then sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connections = []
            while True:
                try:
                    connections.append(server.accept()[0])
                    connections[-1].sendall(answer)
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.mp4"
        check_refused(BEFORE, detect(folder, address))


def too_large(folder: Path) -> None:
    """A frame of 196 million pixels, in the header of a file of bytes without them."""
    side, none = 14_000, [0] * 4
    header = struct.pack("<4sL4s4sL4s", b"RIFF", 10_000, b"AVI ", b"LIST", 192, b"hdrl")
    header += struct.pack("<4s5L", b"avih", 56, 40_000, 0, 0, 0)
    header += struct.pack("<10L", 10, 0, 1, 0, side, side, *none)
    stream = struct.pack("<4s4sL2H", b"vids", b"MJPG", 0, 0, 0)
    stream += struct.pack("<8L4H", 0, 1, 25, 0, 10, 0, 0, 0, *none)
    form = struct.pack("<3L2H6L", 40, side, side, 1, 24, 0x47504A4D, 0, *none)
    listed = b"strl" + struct.pack("<4sL", b"strh", 56) + stream
    listed += struct.pack("<4sL", b"strf", 40) + form
    whole = header + struct.pack("<4sL", b"LIST", len(listed)) + listed
    movie = b"movi" + struct.pack("<4sL", b"00dc", 100) + bytes(100)
    (folder / "in.avi").write_bytes(whole + struct.pack("<4sL", b"LIST", len(movie)) + movie)
    check_refused(BEFORE, detect(folder, str(folder / "in.avi")))


def holes(folder: Path) -> None:
    with (folder / "in.mp4").open("wb") as file:
        file.truncate(40 * 10**9)
    check_refused(BEFORE, detect(folder, str(folder / "in.mp4")))


Run = Callable[[Path], None]
RUNS: dict[str, Run] = {
    "8K": of_8k,
    "a frame of 196 million pixels": too_large,
    "a file of holes": holes,
    "a playlist": functools.partial(text, "#EXTM3U\n#EXTINF:1,\nfile:///dev/zero\n"),
    "a list of files": functools.partial(text, "ffconcat version 1.0\nfile /dev/zero\n"),
    "a description of a session": functools.partial(
        text, "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    ),
    "the name of a pipe": functools.partial(named, "pipe:0"),
    "the name of the standard input": functools.partial(named, "-"),
    "the name of several files": functools.partial(named, "concat:/dev/zero|/dev/zero"),
    "a name that makes frames": functools.partial(named, "lavfi:testsrc"),
    "a server that sends nothing": functools.partial(silent, b""),
    "a server that begins an answer": functools.partial(
        silent, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n\0\0\0\x18ftypmp42"
    ),
}
ATTACKS: list[Attack] = [Attack(KIND, name, run) for name, run in RUNS.items()]
