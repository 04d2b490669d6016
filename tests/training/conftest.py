"""A finished run that the tests of training share; they read it only."""

from __future__ import annotations

from typing import NamedTuple

import pytest

import train
from tests.conftest import training_options
from utils.training.report import TrainResult


class Trained(NamedTuple):
    """A run, and the options that it had."""

    options: dict
    done: TrainResult


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Three epochs with plots, every second one saved."""
    options = training_options(tmp_path_factory.mktemp("trained"))
    done = train.run(**options | {"noplots": False, "save_period": 2})
    assert isinstance(done, TrainResult)
    return Trained(options, done)
