"""The data pipeline: from files to batches.

``read_data_yaml`` says where a data set is, ``DetectionDataset`` reads and augments it, ``build_loader`` makes batches.
"""

from utils.datasets.dataset import DetectionDataset
from utils.datasets.description import DataDescription, read_data_yaml
from utils.datasets.loader import Loader, build_loader, check_batch_size, collate
from utils.datasets.randomness import epoch_order, multi_scale_size, sample_rng

__all__ = [
    "DataDescription",
    "DetectionDataset",
    "Loader",
    "build_loader",
    "check_batch_size",
    "collate",
    "epoch_order",
    "multi_scale_size",
    "read_data_yaml",
    "sample_rng",
]
