"""From files to records, and from records to batches. NumPy; TensorFlow only where files say so."""
