"""Knowledge distillation for dense object detectors, in the detector's own protocol.

The heart is `bckd.losses.distillation`. A run is `bckd.training.trainer.train(recipe)`.
"""
