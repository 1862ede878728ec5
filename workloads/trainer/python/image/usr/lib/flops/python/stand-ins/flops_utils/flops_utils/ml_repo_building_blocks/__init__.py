"""The node's data, for ML repositories."""

from flops_trainer.data import load_dataset

__all__ = ["load_dataset"]
