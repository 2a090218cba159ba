"""Training: augmentation on the device, the step, the optimiser, checkpoints, the loop."""
