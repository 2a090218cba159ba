"""Objects followed from frame to frame of a video, by ByteTrack of the package `trackers`."""

import dataclasses

import numpy as np

from ssd_jax.errors import missing_package
from ssd_jax.inference.detections import Detections

LEAST_SCORE = 0.1  # of detections that go on with a track, as where an object is half hidden


class Tracker:
    """Gives the objects of one video numbers, which they keep.

    An object has its number from the second frame on in which it is seen, and keeps it where it is
    lost for less than a second.
    """

    def __init__(self, score_threshold: float) -> None:
        """Begins without any object.

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
        """The detections of the next frame with their `tracks`.

        Args:
          detections: all of them, those with low scores too.
          seconds: the time of the frame, later than that of the frame before.
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
            tracks[places] = found.tracker_id + 1  # which is -1 where there is none
        return dataclasses.replace(detections, tracks=tracks)
