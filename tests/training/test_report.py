"""What a training says of its settings and its length."""

from __future__ import annotations

import torch
from torch import nn

from utils.config.hyperparameters import Hyperparameters
from utils.config.loading import load_hyperparameters
from utils.training.optim import Schedule, build_optimizer
from utils.training.options import TrainOptions
from utils.training.report import FAST_PRESET, FEW_STEPS, settings_text, steps_text


def test_settings_show_what_differs_and_what_acts() -> None:
    usual = settings_text(TrainOptions().to_mapping(), load_hyperparameters("hyp.scratch-low.yaml"))
    assert "hyper-parameters: all as in hyp.scratch-low.yaml" in usual
    assert "rank_gain" not in usual and "delta" not in usual and "workers" not in usual and "seed 0" in usual
    options = TrainOptions(hyp="hyp.rs.yaml", workers=2, cos_lr=True).to_mapping()
    ranked = settings_text(options, load_hyperparameters("hyp.rs.yaml"))
    assert "workers 2" in ranked and "cos_lr True" in ranked
    assert "hyper-parameters: lr0 0.04; the others as in hyp.scratch-low.yaml" in ranked
    assert "rank_on joint, rank_gain 1" in ranked and "delta 1" in ranked and "control_points" not in ranked
    curves = settings_text(options, load_hyperparameters(FAST_PRESET))
    assert "control_points 5 curves" in curves
    correlated = settings_text(options, load_hyperparameters("hyp.corr-spearman.yaml"))
    assert "correlation spearman, correlation_gain 0.05, regularization_strength 1" in correlated


def test_steps_are_counted_as_training_takes_them() -> None:
    optimizer = build_optimizer(nn.Conv2d(1, 1, 1), "SGD", Hyperparameters(), 16)
    for epochs, num_batches, batch_size in ((44, 38, 16), (3, 50, 64), (2, 7, 4), (1, 1, 16), (30, 25, 16)):
        schedule = Schedule(Hyperparameters(), epochs, num_batches, batch_size, cosine=False)
        last, taken = -1, 0
        for iteration in range(epochs * num_batches):  # as train_one_epoch does
            if iteration - last >= schedule.apply(optimizer, iteration):
                last, taken = iteration, taken + 1
        assert schedule.num_steps() == taken, (epochs, num_batches, batch_size)
    assert isinstance(optimizer, torch.optim.Optimizer)


def test_short_trainings_from_scratch_are_advised() -> None:
    bce, ranking = Hyperparameters(), load_hyperparameters(FAST_PRESET)
    assert FAST_PRESET in steps_text(FEW_STEPS - 1, 30, True, bce)
    assert steps_text(211, 30, True, bce).startswith("training: 211 optimiser steps in 30 epochs, from scratch.")
    for text in (
        steps_text(FEW_STEPS, 30, True, bce),
        steps_text(10, 30, False, bce),
        steps_text(10, 30, True, ranking),
    ):
        assert FAST_PRESET not in text
