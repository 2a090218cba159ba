"""The networks: image in, offsets and logits out. Flax NNX modules."""
