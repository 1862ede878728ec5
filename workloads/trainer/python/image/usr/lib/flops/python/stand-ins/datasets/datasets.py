"""Stands in for Hugging Face's datasets where that is not installed: the class that load_dataset() gives."""

from flops_trainer.dataset import Dataset, DatasetDict

__all__ = ["Dataset", "DatasetDict"]
