"""Video files through PyAV (extra `viz`): decoded frame by frame, and H.264 written frame by frame."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drconv.errors import DrconvError, FileError

__all__ = ["VideoWriter", "decoded_frames"]

_TICK = Fraction(1, 1000)
_WHAT_WORKS = "give a sound video, an animated image, or a folder of images"


def decoded_frames(path: Path, every: int = 1) -> Iterator[tuple[int, float, Image.Image]]:
    """Yield index, seconds after the first frame, and picture of every `every`-th frame, upright.

    Raises:
        FileError: the file is no video, is damaged, or holds no frame.
    """
    start: float | None = None
    index = -1
    try:
        # A file and no name, which could be an address; and no protocol by which a playlist could fetch others.
        with path.open("rb") as file, av.open(file, "r", options={"protocol_whitelist": "none"}) as container:
            if not container.streams.video:
                raise FileError(f"the file has no video stream, got {path}; {_WHAT_WORKS}")
            frame: Any  # not all of its methods have types
            for index, frame in enumerate(container.decode(container.streams.video[0])):
                time = frame.time
                if time is None:
                    time = index / float(container.streams.video[0].average_rate or 25)
                start = time if start is None else start
                if getattr(frame, "is_corrupt", False):
                    raise FileError(f"frame {index} of the video is damaged, got {path}; {_WHAT_WORKS}")
                if index % every == 0:
                    image = frame.to_image()
                    turn = int(getattr(frame, "rotation", 0))
                    yield index, time - start, image.rotate(turn, expand=True) if turn else image
    except FileError:
        raise
    except (av.FFmpegError, OSError, ValueError) as error:
        where = "cannot be read" if index < 0 else f"is damaged after frame {index}"
        raise FileError(f"the video {where}, got {path} ({_reason(error)}); {_WHAT_WORKS}") from error
    if index < 0:
        raise FileError(f"the video holds no frame, got {path}; {_WHAT_WORKS}")


class VideoWriter:
    """An MP4 file (H.264) that grows frame by frame.

    Args:
        stream: a file open for reading and writing.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._container = av.open(stream, "w", format="mp4")
        self._stream: Any = None
        self._last = -1

    def add(self, pixels: NDArray[np.uint8], time: float) -> None:
        """Write a frame.

        Args:
            pixels: sRGB, `[H, W, 3]`, H and W even and the same for all frames.
            time: at which it is shown, seconds.
        """
        if self._stream is None:
            try:
                # The rate is a hint for players; times are in each frame.
                self._stream = self._container.add_stream("libx264", rate=30, options={"crf": "20", "bf": "0"})
            except (av.FFmpegError, ValueError) as error:
                raise DrconvError(
                    f"this PyAV cannot write H.264 ({_reason(error)}); use --video gif, or a PyAV of PyPI"
                ) from error
            self._stream.height, self._stream.width = pixels.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.time_base = self._stream.codec_context.time_base = _TICK
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        self._last = max(self._last + 1, round(time / _TICK))
        frame.pts, frame.time_base = self._last, _TICK
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what is left; the stream stays open."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
