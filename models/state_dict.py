"""Write the weights of a checkpoint as a plain state dict, whose key names are those of YOLOv5.

``python -m models.state_dict best.pt weights.pt`` (or ``weights.safetensors``, where that package is installed).
"""

from __future__ import annotations

import argparse
import logging
from collections import OrderedDict
from pathlib import Path

import torch

from models.loading import read_weights
from utils.config.console import run_main, setup_logging
from utils.errors import UserError

log = logging.getLogger(__name__)


def write_state_dict(weights: str | Path, target: str | Path) -> Path:
    """Write a state dict: ``model.<row>...`` to float32 tensors, the average where the checkpoint has one.

    Args:
        weights: checkpoint of this program, or of YOLOv5 or YOLOv3.
        target: a ``.pt`` or ``.safetensors`` file that does not exist yet.

    Raises:
        UserError: an unreadable checkpoint, a target that exists or has another suffix, or no safetensors package.
    """
    target = Path(target)
    if target.suffix not in (".pt", ".safetensors"):
        raise UserError(f"{target}: expected a file name that ends in .pt or .safetensors")
    if target.exists():
        raise UserError(f"{target}: exists already; choose another name")
    content = read_weights(weights)
    state = OrderedDict((name, value.contiguous()) for name, value in (content.get("ema") or content["model"]).items())
    if target.suffix == ".pt":
        torch.save(state, target)
    else:
        try:
            from safetensors.torch import save_file
        except ImportError:
            raise UserError("a .safetensors file needs the package safetensors: pip install safetensors") from None
        save_file(dict(state), target)
    log.info("%d tensors of %s are in %s", len(state), weights, target)
    return target


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m models.state_dict", description=__doc__.splitlines()[0])
    parser.add_argument("weights", help="checkpoint")
    parser.add_argument("target", help="file to write, .pt or .safetensors")
    options = parser.parse_args()
    setup_logging()
    write_state_dict(options.weights, options.target)


if __name__ == "__main__":
    run_main(main)
