"""Training: the loop, its augmentation, its optimizers, and the stage that runs it."""
