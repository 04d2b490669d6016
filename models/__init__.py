"""Networks built from YAML."""

from models.yolo import DetectionModel, build_model

__all__ = ["DetectionModel", "build_model"]
