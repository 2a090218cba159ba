"""Tracks objects in a video, with ByteTrack of the package `trackers`."""

import dataclasses

import numpy as np

from ssd_jax.errors import missing_package
from ssd_jax.inference.detections import Detections

LEAST_SCORE = 0.1  # the lowest score that continues a track, for example of a partly hidden object


class Tracker:
    """Gives the objects of one video constant numbers.

    An object gets its number in the second frame with it, and keeps the number if it disappears for
    less than a second.
    """

    def __init__(self, score_threshold: float) -> None:
        """Begins without objects.

        Args:
          score_threshold: detections with this score or a higher one begin a track.

        Raises:
          UserError: the package `trackers` is not installed.
        """
        try:
            from trackers import ByteTrackTracker
        except ImportError as error:
            raise missing_package("trackers") from error
        self._tracker = ByteTrackTracker(
            track_activation_threshold=score_threshold,
            high_conf_det_threshold=score_threshold,
            minimum_consecutive_frames=1,
        )

    def __call__(self, detections: Detections, seconds: float) -> Detections:
        """Adds `tracks` to the detections of the next frame.

        Args:
          detections: all detections, including low scores.
          seconds: the time of the frame, later than the previous frame.
        """
        import supervision

        chosen = detections.scores >= LEAST_SCORE
        (places,) = np.nonzero(chosen)
        found = self._tracker.update(
            supervision.Detections(
                xyxy=detections.boxes[places].astype(np.float32),
                confidence=detections.scores[places],
                class_id=detections.labels[places],
                data={"place": places},
            ),
            timestamp=seconds,
        )
        tracks = np.zeros(len(detections), np.int64)
        if found.tracker_id is not None and len(found):
            places = np.asarray(found.data["place"], np.int64)
            tracks[places] = found.tracker_id + 1  # -1 for no number
        return dataclasses.replace(detections, tracks=tracks)
