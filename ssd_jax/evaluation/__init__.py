"""From detections to mAP: metrics, error analysis, comparison and report. NumPy, no JAX."""
