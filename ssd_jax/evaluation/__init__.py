"""From batches to detections, and from detections to mAP."""
