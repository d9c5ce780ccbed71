"""Writing a video frame by frame."""

from pathlib import Path

import cv2
import numpy as np

from mtl_plugins.errors import UserOSError

CODECS = (('.mp4', 'mp4v'), ('.avi', 'MJPG'))
"""Container and codec in the order of trial; OpenCV carries an encoder of its own for the last."""


class VideoFile:
    """A video that is opened with its first frame, whose size all frames have.

    Args:
        path: Where to write, without suffix.
        fps: Frames per second.

    Attributes:
        path: The file, None before the first frame.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._stem = path
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._frames = 0
        self.path: Path | None = None

    def add(self, rgb: np.ndarray) -> None:
        """Append a frame ``(H, W, 3)`` uint8; an odd last row or column, which codecs refuse, is left out.

        Raises:
            OSError: If no codec can be opened.
            ValueError: If the frame has another size than the first.
        """
        height, width = (side // 2 * 2 for side in rgb.shape[:2])
        if self._writer is None:
            self._open((width, height))
        if (width, height) != self._size:
            raise ValueError(f'a frame of {width} x {height} does not fit into a video of {self._size}')
        self._writer.write(np.ascontiguousarray(rgb[:height, :width, ::-1]))
        self._frames += 1

    def close(self) -> None:
        """Finish the file.

        Raises:
            OSError: If it does not hold all frames: OpenCV says nothing where it cannot write.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        written = cv2.VideoCapture(str(self.path))
        count = int(written.get(cv2.CAP_PROP_FRAME_COUNT))
        written.release()
        if count < self._frames:
            raise UserOSError(
                f'{self.path} holds {max(count, 0)} of {self._frames} frames; check the free space and write it again'
            )

    def _open(self, size: tuple[int, int]) -> None:
        self._stem.parent.mkdir(parents=True, exist_ok=True)
        for suffix, codec in CODECS:
            path = self._stem.with_name(self._stem.name + suffix)
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), self._fps, size)
            if writer.isOpened():
                self._writer, self._size, self.path = writer, size, path
                return
            path.unlink(missing_ok=True)
        raise UserOSError(
            f'OpenCV can write {self._stem} neither as mp4 nor as avi; check the folder and the free space'
        )
