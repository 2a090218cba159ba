"""Computes `opencv.npz`, the results of OpenCV for 16 pixels; see README.md. Needs OpenCV.

python tests/reference/make_opencv.py
"""

from pathlib import Path

import cv2
import numpy as np

# Grey ones, pure colours, and some between.
PIXELS = np.array(
    [
        [[0, 0, 0], [255, 255, 255], [128, 128, 128], [255, 0, 0]],
        [[0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255]],
        [[255, 0, 255], [10, 200, 30], [200, 10, 30], [30, 10, 200]],
        [[250, 240, 230], [5, 10, 15], [90, 91, 89], [1, 0, 0]],
    ],
    np.uint8,
)

# Brightness, contrast, saturation, hue in degrees, and whether contrast comes before the latter.
DISTORTIONS = np.array(
    [
        [0, 1, 1, 0, 0],
        [32, 1, 1, 0, 0],
        [-20, 1, 1, 0, 0],
        [0, 1.5, 1, 0, 0],
        [0, 0.5, 1, 0, 1],
        [0, 1, 1.5, 0, 0],
        [0, 1, 0.5, 0, 0],
        [0, 1, 1, 36, 0],
        [0, 1, 1, -36, 0],
        [15, 1.3, 1.4, 10, 0],
        [15, 1.3, 1.4, 10, 1],
        [-32, 0.6, 0.7, -25, 0],
        [-32, 0.6, 0.7, -25, 1],
        [25, 0.5, 1.5, 36, 1],
        [25, 1.5, 0.5, -36, 0],
    ],
    np.float32,
)


def distort(pixels: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """The operations in float32, where OpenCV has hue in degrees and the rest in [0, 1]."""
    brightness, contrast, saturation, hue, contrast_first = distortion
    pixels = np.clip(pixels.astype(np.float32) + brightness, 0, 255)
    if contrast_first:
        pixels = np.clip(pixels * contrast, 0, 255)
    hsv = cv2.cvtColor(pixels / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + hue) % 360
    hsv[..., 1] = np.minimum(hsv[..., 1] * saturation, 1)
    pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255
    if not contrast_first:
        pixels = np.clip(pixels * contrast, 0, 255)
    return pixels


def distort_8bit(pixels: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """The operations as Caffe runs them: rounded to 8 bits after each, hue to two degrees."""

    def convert(values, factor, delta):  # cv::Mat::convertTo
        return np.clip(np.rint(values * factor + delta), 0, 255).astype(np.uint8)

    brightness, contrast, saturation, hue, contrast_first = distortion.astype(np.float64)
    pixels = convert(pixels, 1, brightness)
    if contrast_first:
        pixels = convert(pixels, contrast, 0)
    for channel, factor, delta in ((1, saturation, 0), (0, 1, hue / 2)):
        hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
        hsv[..., channel] = convert(hsv[..., channel], factor, delta)
        pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if not contrast_first:
        pixels = convert(pixels, contrast, 0)
    return pixels


def main() -> None:
    ramp = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    resized = {
        f"{name}_{side}": cv2.resize(ramp, (side, side), interpolation=flag)
        for name, flag in (
            ("bilinear", cv2.INTER_LINEAR),
            ("area", cv2.INTER_AREA),
            ("nearest", cv2.INTER_NEAREST),
            ("bicubic", cv2.INTER_CUBIC),
            ("lanczos3", cv2.INTER_LANCZOS4),
        )
        for side in (2, 8)
    }
    np.savez_compressed(
        Path(__file__).parent / "opencv.npz",
        pixels=PIXELS,
        distortions=DISTORTIONS,
        distorted=np.stack([distort(PIXELS, distortion) for distortion in DISTORTIONS]),
        distorted_8bit=np.stack([distort_8bit(PIXELS, distortion) for distortion in DISTORTIONS]),
        picture=ramp,
        **resized,
    )


if __name__ == "__main__":
    main()
