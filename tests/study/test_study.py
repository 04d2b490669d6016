"""Studies on the tiny training of test_train.py: two presets, two seeds, each run a second or less."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import study
import train
from utils.checkpoint import load_checkpoint
from utils.config.hyperparameters import Hyperparameters
from utils.config.parser import CommandParser
from utils.errors import UserError
from utils.study.options import StudyOptions
from utils.study.rows import append_row, flat_metrics, read_rows
from utils.study.runs import StudyRun, begin_clock, minutes_in_folder
from utils.study.table import build_table
from utils.training.identity import run_settings
from utils.training.options import TrainOptions

VARYING = ("minutes", "date")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def grid(options: dict, tmp_path: Path) -> dict:
    """Two presets with two seeds, two epochs each."""
    sizes = {"epochs": 2, "project": str(tmp_path / "study"), "name": "grid"}
    return options | sizes | {"hyps": ["hyp.iou.yaml", "hyp.sca.yaml"], "seeds": [0, 1]}


def compared(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name not in VARYING} for row in rows]


def interrupt(patch: pytest.MonkeyPatch, run: int, epoch: int) -> None:
    """Ctrl-C in an epoch of a run, both from 0."""
    one_epoch, begun = train.run_epoch, []

    def interrupted(session: train.Session, now: int) -> dict:
        begun.extend([1] if now == session.progress.start_epoch else [])
        if (len(begun), now) == (run + 1, epoch):
            raise KeyboardInterrupt
        return one_epoch(session, now)

    patch.setattr(train, "run_epoch", interrupted)


def test_a_grid_and_its_second_call(grid: dict, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    done = study.run(**grid)
    assert done.trained == 4 and done.csv == Path(grid["project"]) / "grid/results.csv"
    rows = read_rows(done.csv)
    assert rows == done.rows
    assert [(row["preset"], row["seed"]) for row in rows] == [("iou", "0"), ("sca", "0"), ("iou", "1"), ("sca", "1")]
    assert "run 1 of 4, preset iou, seed 0, 0.0 min so far, time left is known after the first run" in caplog.text
    assert "run 4 of 4, preset sca, seed 1, " in caplog.text and " min left" in caplog.text
    row = rows[1]
    last, best = (load_checkpoint(done.csv.parent / f"sca/0/weights/{name}.pt") for name in ("last", "best"))
    assert float(row["map"]) == best["metrics"]["map"] and float(row["minutes"]) > 0
    assert [float(row[f"ap{t}"]) for t in range(50, 100, 5)] == list(best["metrics"]["ap_per_iou"].values())
    assert row["commit"] == (last["git"] or "") and row["torch"] == torch.__version__ and row["device"] == "cpu"
    assert (row["data"], row["cfg"], row["image_size"], row["epochs"]) == ("data.yaml", "tiny.yaml", "64", "2")
    assert json.loads(row["hyp"]) == {"loss": {"box": "sca"}} and json.loads(row["options"]) == {"batch_size": 2}
    assert "red/map" in row and "blue/ap75" in row and row["epochs_trained"] == "2"

    before = done.csv.read_bytes()
    caplog.clear()
    again = study.run(**grid)
    assert again.trained == 0 and again.rows == rows and done.csv.read_bytes() == before
    assert "run 3 of 4, preset iou, seed 1: finished, its row is in" in caplog.text
    # the rows alone may be lost: the folders hold them
    done.csv.unlink()
    rebuilt = study.run(**grid)
    assert rebuilt.trained == 0 and compared(rebuilt.rows) == compared(rows)
    # the folders alone may be lost, or be on another machine
    (done.csv.parent / "iou").rename(done.csv.parent / "elsewhere")
    assert study.run(**grid).trained == 0


def test_presets_share_weights_and_batches_of_a_seed(grid: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Initial weights, and every batch of both epochs, by seed; seeds differ, and so do the trained weights."""
    seen: dict[tuple, list] = {}
    one_epoch = train.run_epoch

    def watched(session: train.Session, epoch: int) -> dict:
        entry = seen.setdefault((session.config.save_dir.parent.name, session.config.options.seed), [])
        if epoch == 0:
            entry.append([value.clone() for value in session.parts.model.state_dict().values()])
        session.parts.train_loader.set_epoch(epoch)
        entry.append([tensor for batch in session.parts.train_loader for tensor in (batch.images, batch.targets)])
        return one_epoch(session, epoch)

    monkeypatch.setattr(train, "run_epoch", watched)
    study.run(**grid)
    for seed in (0, 1):
        assert len(seen["iou", seed]) == 3
        for first, second in zip(seen["iou", seed], seen["sca", seed], strict=True):
            assert len(first) == len(second) > 1 and all(map(torch.equal, first, second))
    assert not all(map(torch.equal, seen["iou", 0][0], seen["iou", 1][0]))
    weights = [Path(grid["project"]) / "grid" / preset / "0/weights/last.pt" for preset in ("iou", "sca")]
    hyps = [load_checkpoint(path)["hyp"] for path in weights]
    assert hyps[0] != hyps[1] and hyps[0] | {"loss": {}} == hyps[1] | {"loss": {}}
    states = [list(load_checkpoint(path)["model"].values()) for path in weights]
    assert not all(map(torch.equal, *states))


@pytest.mark.parametrize("epoch", [0, 1], ids=["without a checkpoint", "with one"])
def test_an_interrupted_study_goes_on_as_if_nothing_had_happened(grid: dict, epoch: int) -> None:
    whole = study.run(**grid, csv=Path(grid["project"]) / "whole.csv")
    grid["name"] = "stopped"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 1, epoch)
        study.run(**grid)
    folder = Path(grid["project"]) / "stopped"
    assert len(read_rows(folder / "results.csv")) == 1
    assert (folder / "sca/0/weights/last.pt").exists() == bool(epoch)
    one_epoch, epochs = train.run_epoch, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "run_epoch", lambda *given: epochs.append(given[1]) or one_epoch(*given))
        done = study.run(**grid)
    assert epochs == [0, 1, 0, 1, 0, 1][epoch:], "an epoch that has a checkpoint is not repeated"
    assert done.trained == 3 and compared(done.rows) == compared(whole.rows)
    assert all(float(row["minutes"]) > 0 for row in done.rows)


def test_minutes_leave_out_the_time_between_interruption_and_restart(tmp_path: Path) -> None:
    run = StudyRun("sca", "hyp.sca.yaml", 0, tmp_path, {})
    run.last.parent.mkdir()
    for path, when in ((tmp_path / "opt.yaml", 1000), (run.last, 1600)):
        path.touch()
        os.utime(path, (when, when))
    assert minutes_in_folder(run) == 10
    assert begin_clock(run) == 10 and begin_clock(run) == 10, "two starts in vain"
    resumed = json.loads((tmp_path / "study.json").read_text())["resumed"]
    os.utime(run.last, (resumed + 120, resumed + 120))
    assert minutes_in_folder(run) == pytest.approx(12)


def test_other_settings_are_neither_skipped_nor_resumed(grid: dict) -> None:
    grid |= {"hyps": ["hyp.iou.yaml"], "seeds": [0]}
    csv = study.run(**grid).csv
    with pytest.raises(UserError, match=r"results.csv: preset iou, seed 0 .* batch_size 2 instead of 4"):
        study.run(**grid | {"batch_size": 4})
    with pytest.raises(UserError, match=r"iou/0: holds a run with other settings: epochs 2 instead of 3"):
        study.run(**grid | {"epochs": 3})
    with pytest.raises(UserError, match=r"lr0 the default instead of 0.02"):
        study.run(**grid | {"set": ["lr0=0.02"]})
    assert study.run(**grid | {"workers": 1, "noplots": True}).trained == 0, "these change no result"
    assert len(read_rows(csv)) == 1


WRONG = {
    "unknown preset": ({"hyps": ["hyp.scaa.yaml"]}, r"unknown hyper-parameter file.*Did you mean 'hyp.sca.yaml'"),
    "no preset": ({"hyps": []}, "--hyps: expected at least one"),
    "no seed": ({"seeds": []}, "--seeds: expected one or more different seeds but got none"),
    "seed twice": ({"seeds": [1, 1]}, "--seeds: expected one or more different seeds but got 1, 1"),
    "negative seed": ({"seeds": [-1]}, "--seeds: expected a whole number of at least 0 but got -1"),
    "preset twice": ({"hyps": ["hyp.iou.yaml", "hyp.iou.yaml"]}, "would both be the preset 'iou'"),
    "hyp": ({"hyp": "hyp.iou.yaml"}, "--hyp is not an option of study.py train: --hyps names the presets"),
    "option": ({"batchsize": 4}, r"unknown option 'batchsize'"),
    "data": ({"data": "bcd.yaml"}, "unknown data file"),
    "differences": (
        {"hyps": ["hyp.iou.yaml", "hyp.no-augmentation.yaml"]},
        r"hyp.iou.yaml and hyp.no-augmentation.yaml differ in more than the loss: .*hsv_h \(0.015 and 0.0\), .*mosaic",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings(grid: dict, case: str) -> None:
    change, message = WRONG[case]
    with pytest.raises(UserError, match=message):
        study.run(**grid | change)
    assert not Path(grid["project"]).exists()


def test_torchrun_is_refused(grid: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="start it without torchrun"):
        study.run(**grid)


def test_weights_are_told_apart_by_content_and_not_by_folder(tmp_path: Path) -> None:
    hyp = Hyperparameters().to_mapping()
    found = []
    for folder, content in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "best.pt").write_text(content)
        flags = TrainOptions(weights=str(tmp_path / folder / "best.pt"), cfg="").to_mapping()
        found.append(run_settings(flags, hyp))
    assert found[0] == found[1] != found[2] and str(tmp_path) not in str(found)
    assert found[0]["cfg"] == "best.pt" and found[0]["options"].startswith('{"weights": "best.pt ')


def test_an_error_in_a_run_names_it(grid: dict) -> None:
    with pytest.raises(UserError, match="preset iou, seed 0: epoch 1: expected a finite box loss"):
        study.run(**grid | {"set": ["box=1e39"]})


def test_presets_may_differ_in_gains_and_in_more_if_asked(grid: dict, tmp_path: Path) -> None:
    (tmp_path / "hyp.gain.yaml").write_text("base: hyp.iou.yaml\nbox: 0.1\nassigner: atss\n")
    (tmp_path / "hyp.rate.yaml").write_text("base: hyp.iou.yaml\nlr0: 0.02\n")
    gain, rate = (str(tmp_path / f"hyp.{name}.yaml") for name in ("gain", "rate"))

    def planned(*hyps: str, allow: bool = False) -> list:
        left = {name: value for name, value in grid.items() if name not in ("hyps", "seeds", "name", "project")}
        own = {"hyps": hyps, "seeds": [3, 1], "allow_differences": allow, "project": tmp_path, "name": "study"}
        return study.plan(StudyOptions.of({**left, **own}), left)

    cells = planned("hyp.iou.yaml", gain)
    assert [(cell.preset, cell.seed) for cell in cells] == [("iou", 3), ("gain", 3), ("iou", 1), ("gain", 1)]
    assert cells[1].folder == tmp_path / "study/gain/3" and json.loads(cells[1].settings["hyp"])["box"] == 0.1
    with pytest.raises(UserError, match=r"hyp.rate.yaml differ in more than the loss: lr0 \(0.01 and 0.02\)"):
        planned("hyp.iou.yaml", rate)
    assert len(planned("hyp.iou.yaml", rate, allow=True)) == 4


def row(preset: str, seed: int, **values: object) -> dict[str, str]:
    setup = {"data": "d.yaml", "cfg": "m.yaml", "image_size": 64, "epochs": 2, "options": "{}", "hyp": "{}"}
    cells = {"preset": preset, "seed": seed, **setup, "minutes": 1.5, "commit": "abc", "torch": "2", **values}
    return {name: str(value) for name, value in cells.items()}


def test_rows_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new/rows.csv"
    third = 1 / 3
    append_row(path, row("iou", 0, map=repr(third), extra='a "quoted", text\nin two lines'))
    append_row(path, row("sca", 0, map=0.5, other=7))
    first, second = read_rows(path)
    assert float(first["map"]) == third and first["extra"] == 'a "quoted", text\nin two lines'
    assert first["other"] == "" and second["other"] == "7" and second["extra"] == ""
    assert [file.name for file in path.parent.iterdir()] == ["rows.csv"]
    append_row(path, row("iou", 0, map=0.25))
    assert [entry["map"] for entry in read_rows(path)] == ["0.25", "0.5"], "the same run again takes its place"
    before = path.read_bytes()
    with pytest.raises(
        UserError, match=r"rows.csv: preset iou, seed 0 is already there .*: batch_size the default instead"
    ):
        append_row(path, row("iou", 0, options='{"batch_size": 4}'))
    assert path.read_bytes() == before
    append_row(path, row("iou", 0, epochs=3, map=0.1))
    assert len(read_rows(path)) == 3


def test_rows_of_several_machines_in_one_file(tmp_path: Path) -> None:
    one, two, both = (tmp_path / f"{name}.csv" for name in ("one", "two", "both"))
    append_row(one, row("iou", 0, map=0.5, device="cpu"))
    append_row(two, row("iou", 1, map=0.6, fresh=1))
    append_row(two, row("iou", 0, map=0.7))
    both.write_text(one.read_text() + two.read_text())
    rows = read_rows(both)
    assert [(entry["seed"], entry["map"]) for entry in rows] == [("0", "0.7"), ("1", "0.6")]
    append_row(both, row("sca", 1, map=0.9))
    assert [entry.get("fresh") for entry in read_rows(both)] == ["", "1", ""]


def test_files_that_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with pytest.raises(UserError, match=r"rows.csv: cannot be read as the rows of a study: No such file"):
        study.table(path)
    path.write_text("epoch,map\n1,2\n")
    with pytest.raises(UserError, match=r"rows.csv:1: expected the column names of a study, but preset, seed"):
        read_rows(path)
    path.unlink()
    append_row(path, row("iou", 0))
    path.write_text(path.read_text() + "iou,1\n")
    with pytest.raises(UserError, match=r"rows.csv:3: expected \d+ cells but found 2"):
        read_rows(path)


def test_metrics_as_cells() -> None:
    metrics = {"map": 0.1, "map75": None, "ap_per_iou": {"0.50": 0.2, "0.95": 0.3}}
    entry = {"class": 0, "name": "cat", "map": None, "ap_per_iou": [0.4, None]}
    assert flat_metrics(metrics | {"classes": [entry]}) == {
        **{"map": "0.1", "map75": "", "ap50": "0.2", "ap95": "0.3"},
        **{"cat/map": "", "cat/ap50": "0.4", "cat/ap95": ""},
    }
    twins = flat_metrics(metrics | {"classes": [entry, entry | {"class": 1}]})
    assert {"0 cat/ap50", "1 cat/ap50"} <= set(twins)


# By hand. iou: 0.50, 0.54, 0.52: mean 0.52, deviations -0.02, 0.02, 0: std sqrt(0.0008 / 2) = 0.02.
# sca: 0.53, 0.53, 0.56: mean 0.54, std sqrt((0.0001 + 0.0001 + 0.0004) / 2) = sqrt(0.0003).
# Differences 0.03, -0.01, 0.04: mean 0.02, std sqrt((0.0001 + 0.0009 + 0.0004) / 2) = sqrt(0.0007); 2 of 3 better.
IOU, SCA = (0.50, 0.54, 0.52), (0.53, 0.53, 0.56)


def hand_rows() -> list[dict[str, str]]:
    return [
        row(preset, seed, map=values[seed], minutes=minutes + seed)
        for seed in (0, 1, 2)
        for preset, values, minutes in (("iou", IOU, 1), ("sca", SCA, 2))
    ]


def test_the_numbers_of_the_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for entry in hand_rows():
        append_row(tmp_path / "results.csv", entry)
    caplog.set_level("INFO")
    frame = study.table(tmp_path / "results.csv", metric=["map"]).set_index("preset")
    assert list(frame.index) == ["iou", "sca"] and list(frame["seeds"]) == [3, 3] and list(frame["minutes"]) == [2, 3]
    iou, sca = frame.loc["iou"], frame.loc["sca"]
    assert (iou["map"], iou["map std"]) == pytest.approx((0.52, 0.02)) and math.isnan(iou["map difference"])
    assert (sca["map"], sca["map std"]) == pytest.approx((0.54, math.sqrt(0.0003)))
    assert (sca["map difference"], sca["map difference std"]) == pytest.approx((0.02, math.sqrt(0.0007)))
    assert sca["map better"] == 2 and sca["map pairs"] == 3 and sca["least p"] == 0.25
    assert "| iou | 3 | 2.0 | 0.5200 ± 0.0200 |  |  |  |" in caplog.text
    assert "| sca | 3 | 3.0 | 0.5400 ± 0.0173 | +0.0200 ± 0.0265 | 2 of 3 | 0.25 |" in caplog.text
    assert "With fewer than 6 seeds, a two-sided sign-flip test cannot reach p < 0.05" in caplog.text
    assert "2/2^3 = 0.25 with 3" in caplog.text and "Missing" not in caplog.text
    turned = study.table(tmp_path / "results.csv", metric=["map"], baseline="sca").set_index("preset")
    assert list(turned.index) == ["sca", "iou"] and turned.loc["iou", "map difference"] == pytest.approx(-0.02)
    with pytest.raises(UserError, match=r"unknown metric 'mapp'. Known: map. Did you mean 'map'"):
        study.table(tmp_path / "results.csv", metric=["mapp"])
    with pytest.raises(UserError, match=r"unknown preset 'ciou'. Known: iou, sca"):
        study.table(tmp_path / "results.csv", metric=["map"], baseline="ciou")


def test_of_errors_less_is_better() -> None:
    names = ("olrp", "cell/olrp", "laece", "map")
    better, worse = ({name: value for name in names} for value in (0.3, 0.4))
    rows = [row("iou", 0, **worse), row("sca", 0, **better)]
    result = build_table(rows, names)
    assert [result.frame[f"{name} better"].iloc[1] for name in names] == [1, 1, 1, 0]
    assert result.frame["olrp difference"].iloc[1] == pytest.approx(-0.1)
    assert "For olrp, cell/olrp, laece lower is better" in result.markdown
    assert "lower is better" not in build_table(rows, ["map"]).markdown


def test_six_seeds_may_be_significant() -> None:
    rows = [row(preset, seed, map=0.1 * seed) for seed in range(6) for preset in ("iou", "sca")]
    result = build_table(rows, ["map"])
    assert result.frame["least p"].iloc[1] == 2 / 64 and "fewer than" not in result.markdown
    assert result.frame["map better"].iloc[1] == 0, "equal is not better"


def test_missing_cells_are_shown() -> None:
    rows = [entry for entry in hand_rows() if (entry["preset"], entry["seed"]) != ("iou", "1")]
    rows[-1]["map"] = ""  # sca, seed 2
    rows.append(row("late", 9, map=0.3))
    result = build_table(rows, ["map"])
    sca, late = result.frame.iloc[1], result.frame.iloc[2]
    assert sca["seeds"] == 3 and sca["map pairs"] == 1 and sca["map difference"] == pytest.approx(0.03)
    assert late["map pairs"] == 0 and math.isnan(late["map difference"]) and math.isnan(late["least p"])
    assert "| late | 1 | 1.5 | 0.3000 | missing | missing | missing |" in result.markdown
    assert "iou seed 1, iou seed 9, sca seed 2 map, sca seed 9, late seed 0" in result.markdown


def test_what_must_not_be_averaged() -> None:
    rows = hand_rows()
    rows[2]["epochs"] = rows[3]["epochs"] = "5"
    result = build_table(rows, ["map"])
    assert list(result.frame["seeds"]) == [2, 2, 1, 1] and result.markdown.count("**d.yaml, m.yaml, 64 pixels") == 2
    rows = hand_rows()
    rows[2]["hyp"] = '{"lr0": 0.1}'
    with pytest.raises(UserError, match="preset iou: its rows were trained with different hyper-parameters"):
        build_table(rows, ["map"])
    rows[0]["hyp"] = rows[4]["hyp"] = rows[2]["hyp"]
    assert "Besides the loss, the presets differ in: lr0" in build_table(rows, ["map"]).markdown


def test_command_line(tmp_path: Path) -> None:
    append_row(tmp_path / "runs/study/exp/results.csv", row("iou", 0, map=0.5))

    def call(*flags: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / "study.py"), *flags]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    shown = call("table", "--metric", "map")
    assert shown.returncode == 0 and "| iou | 1 | 1.5 | 0.5000 |" in shown.stdout, shown.stderr


def test_flags_of_the_command_line() -> None:
    flags = "--hyps a b --seeds 0 2 --img 64 --set lr0=1 loss.box=iou --name n --allow-differences"
    assert CommandParser(StudyOptions).given(flags.split()) == {
        **{"hyps": ("a", "b"), "seeds": (0, 2), "imgsz": 64, "set": ("lr0=1", "loss.box=iou")},
        **{"name": "n", "allow_differences": True},
    }
