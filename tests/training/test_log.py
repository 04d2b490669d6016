"""results.csv, its resumption, settings files and TensorBoard events."""

from __future__ import annotations

import builtins
import logging
import math
from pathlib import Path

import pytest
import torch
import yaml

from utils.errors import UserError
from utils.training.log import COLUMNS, RunLog, read_results

YOLOV5_HEADER = (
    "epoch,train/box_loss,train/obj_loss,train/cls_loss,metrics/precision,metrics/recall,metrics/mAP_0.5,"
    "metrics/mAP_0.5:0.95,val/box_loss,val/obj_loss,val/cls_loss,x/lr0,x/lr1,x/lr2"
)
OWN_COLUMNS = (
    "metrics/mAP_0.75,metrics/mAP_0.8,metrics/mAP_0.9,"
    "metrics/oLRP,metrics/oLRP_localisation,metrics/oLRP_false_positive,metrics/oLRP_false_negative"
)


def quiet_log(folder: Path, resume: bool = False) -> RunLog:
    return RunLog(folder, resume=resume, tensorboard=False)


def test_columns_are_those_of_yolov5_without_padding(tmp_path):
    log = quiet_log(tmp_path)
    log.log(0, dict.fromkeys(COLUMNS[1:], 0.5))
    lines = log.csv_path.read_text().splitlines()
    assert lines == [f"{YOLOV5_HEADER},{OWN_COLUMNS}", "0" + ",0.5" * (13 + 7)]


def test_values_come_back_in_single_precision(tmp_path):
    values = torch.rand(50)
    log = quiet_log(tmp_path)
    for epoch, value in enumerate(values):
        log.log(epoch, {"train/box_loss": value, "train/obj_loss": math.nan})
    results = read_results(log.csv_path)
    assert torch.equal(torch.tensor(results["train/box_loss"].to_numpy(), dtype=torch.float32), values)
    assert results["epoch"].tolist() == list(range(50))
    assert results["train/obj_loss"].isna().all()
    assert results["metrics/recall"].isna().all()  # not given, stays empty


def test_every_epoch_is_on_disk_at_once(tmp_path):
    log = quiet_log(tmp_path)
    for epoch in range(3):
        log.log(epoch, {"train/box_loss": epoch})
        assert len(read_results(tmp_path / "results.csv")) == epoch + 1


def test_a_new_name_becomes_a_column_for_all_rows(tmp_path):
    log = quiet_log(tmp_path)
    log.log(0, {"train/box_loss": 1})
    log.log(1, {"train/box_loss": 2, "train/rank_loss": 3})
    log.log(2, {"train/box_loss": 4})
    results = read_results(log.csv_path)
    assert list(results.columns) == [*COLUMNS, "train/rank_loss"]
    assert results["train/box_loss"].tolist() == [1, 2, 4]
    assert results["train/rank_loss"].isna().tolist() == [True, False, True]


def test_resuming_drops_the_rows_that_are_trained_again(tmp_path):
    log = quiet_log(tmp_path)
    for epoch in range(4):
        log.log(epoch, {"train/box_loss": epoch, "extra": 7})
    resumed = quiet_log(tmp_path, resume=True)
    for epoch in (2, 3, 4):
        resumed.log(epoch, {"train/box_loss": 10 + epoch})
    results = read_results(log.csv_path)
    assert results["epoch"].tolist() == [0, 1, 2, 3, 4]
    assert results["train/box_loss"].tolist() == [0, 1, 12, 13, 14]
    assert results["extra"].tolist()[:2] == [7, 7]


def test_an_epoch_that_is_logged_again_is_replaced(tmp_path):
    log = quiet_log(tmp_path)
    for epoch, value in ((0, 1), (1, 2), (1, 3)):
        log.log(epoch, {"train/box_loss": value})
    assert read_results(log.csv_path)["train/box_loss"].tolist() == [1, 3]


def test_resuming_survives_a_half_written_line_and_padded_files(tmp_path):
    header = ",".join(f"{name:^30}" for name in YOLOV5_HEADER.split(","))
    rows = "\n".join(",".join(f"{value:>20}" for value in [epoch, *[0.25] * 13]) for epoch in range(2))
    (tmp_path / "results.csv").write_text(f"{header}\n{rows}\n{2:>20},{0.25:>20},{0.2:>5}")
    assert read_results(tmp_path / "results.csv")["x/lr2"].tolist()[:2] == [0.25, 0.25]
    log = quiet_log(tmp_path, resume=True)
    log.log(2, {"train/box_loss": 0.5})
    assert log.csv_path.read_text().splitlines()[0] == f"{YOLOV5_HEADER},{OWN_COLUMNS}"
    assert read_results(log.csv_path)["train/box_loss"].tolist() == [0.25, 0.25, 0.5]


def test_a_new_run_begins_a_new_file(tmp_path):
    quiet_log(tmp_path).log(5, {"old": 1})
    quiet_log(tmp_path).log(0, {"train/box_loss": 1})
    results = read_results(tmp_path / "results.csv")
    assert results["epoch"].tolist() == [0] and "old" not in results


def test_results_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"results\.csv: cannot be read as results"):
        read_results(tmp_path / "results.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(UserError, match=r"empty\.csv: cannot be read as results"):
        read_results(tmp_path / "empty.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="expected a column 'epoch' but found a, b"):
        read_results(tmp_path / "other.csv")
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"results\.csv:1: expected the column names"):
        quiet_log(tmp_path, resume=True)


def test_settings_are_plain_yaml_in_their_order(tmp_path):
    opt = {"weights": "", "project": Path("runs/train"), "freeze": (0, 1), "cfg": None, "nom": "été"}
    quiet_log(tmp_path).save_settings(opt, {"lr0": 0.01, "loss": {"box": "sca", "score": "bce"}})
    saved = yaml.safe_load((tmp_path / "opt.yaml").read_text(encoding="utf-8"))
    assert list(saved.items()) == list((opt | {"project": "runs/train", "freeze": [0, 1]}).items())
    assert yaml.safe_load((tmp_path / "hyp.yaml").read_text()) == {"lr0": 0.01, "loss": {"box": "sca", "score": "bce"}}


def test_tensorboard_gets_every_value(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with RunLog(tmp_path) as log:
        for epoch in range(3):
            log.log(epoch, {"metrics/mAP_0.5": epoch / 4})
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("metrics/mAP_0.5")] == [(0, 0), (1, 0.25), (2, 0.5)]


def test_without_tensorboard_it_is_said_once(tmp_path, monkeypatch, caplog):
    original = builtins.__import__

    def without_tensorboard(name: str, *args: object, **kwargs: object) -> object:
        if "tensorboard" in name:
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_tensorboard)
    log = RunLog(tmp_path)
    with caplog.at_level(logging.WARNING):
        log.log(0, {"train/box_loss": 1})
        log.log(1, {"train/box_loss": 1})
    assert [record.message for record in caplog.records] == [
        f"TensorBoard is not installed: results go to {tmp_path / 'results.csv'} alone"
    ]
    assert len(read_results(log.csv_path)) == 2
