"""Searches as a user meets them; trainings are formulas here, but for one real search of two tiny trainings."""

from __future__ import annotations

import csv
import logging
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import search
import train
from utils.config.hyperparameters import Hyperparameters
from utils.config.loading import load_hyperparameters
from utils.config.parser import CommandParser
from utils.criterion.build import check_loss_settings
from utils.datasets import read_data_yaml
from utils.datasets.scan import list_images
from utils.errors import DivergenceError, UserError
from utils.losses import control_points_from
from utils.search.options import SearchOptions
from utils.search.plan import make_plan
from utils.training.options import TrainOptions

ROOT = Path(__file__).resolve().parents[2]
Formula = Callable[[Hyperparameters, int], float]


@pytest.fixture
def asked(options: dict, tmp_path: Path) -> dict:
    """Options of a search of four trials of three epochs."""
    kept = {name: options[name] for name in ("data", "cfg", "imgsz", "batch_size", "epochs", "workers", "device")}
    return kept | {"project": str(tmp_path / "search"), "name": "s", "trials": 4, "noplots": True}


@pytest.fixture
def formula(monkeypatch: pytest.MonkeyPatch) -> Callable[[Formula], list[dict]]:
    """Puts a formula of hyper-parameters and epoch in the place of training; returns the options of each call."""

    def install(value: Formula) -> list[dict]:
        calls: list[dict] = []

        def run(*, on_epoch: Callable, **given: object) -> SimpleNamespace:
            calls.append(given)
            hyp = load_hyperparameters(given.get("hyp", "hyp.scratch-low.yaml"), given["set"])
            for epoch in range(given["epochs"]):
                number = value(hyp, epoch)
                metrics = SimpleNamespace(fitness=number, map=number / 2)
                final = epoch + 1 == given["epochs"]
                on_epoch(epoch, metrics if final or not given["noval"] else None)
            return SimpleNamespace(metrics=metrics)

        monkeypatch.setattr(train, "run", run)
        return calls

    return install


def peak(hyp: Hyperparameters, epoch: int) -> float:
    """Best at lr0 = 0.02, better with each epoch."""
    return math.exp(-(math.log(hyp.lr0 / 0.02) ** 2)) * (epoch + 1) / 3


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_search_and_its_second_call(asked: dict, formula, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    calls = formula(peak)
    done = search.run(**asked, keys=["lr0", "box"], pruner="none")
    assert done.folder == Path(asked["project"]) / "s" and done.trials == len(calls) == 4
    assert calls[0]["set"] == ["lr0=0.01", "box=0.05"], "the first trial is the base file"
    assert {call["name"] for call in calls} == {f"000{number}" for number in range(4)}
    assert all(call["project"] == str(done.folder / "trials") and "seed" not in call for call in calls)

    rows = rows_of(done.folder)
    assert [(row["trial"], row["state"]) for row in rows] == [(str(number), "complete") for number in range(4)]
    values = [peak(load_hyperparameters("hyp.scratch-low.yaml", call["set"]), 2) for call in calls]
    assert [float(row["fitness"]) for row in rows] == values
    assert done.value == max(values) and done.trial == values.index(max(values))
    assert all(float(row["lr0"]) > 0 and float(row["box"]) > 0 and row["worker"] and row["minutes"] for row in rows)
    best = load_hyperparameters("hyp.scratch-low.yaml", calls[done.trial]["set"])
    assert load_hyperparameters(done.hyp) == best
    assert set(yaml.safe_load(done.hyp.read_text())) <= {"base", "lr0", "box"}, "only what differs"
    assert "1 of 4 trials, best fitness" in caplog.text and "4 of 4 trials, best fitness" in caplog.text
    assert "0:00 left" in caplog.text and f"train with --hyp {done.hyp}" in caplog.text

    again = search.run(**asked, keys=["lr0", "box"], pruner="none")
    assert len(calls) == 4 and again[:5] == done[:5]
    more = search.run(**asked | {"trials": 5}, keys=["lr0", "box"], pruner="none")
    assert len(calls) == 5 and more.trials == 5 and rows_of(done.folder)[:4] == rows


def test_the_best_hyper_parameters_of_any_base(
    asked: dict, formula, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = formula(peak)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("hyp.own.yaml").write_text("base: hyp.sca.yaml\nlr0: 0.015\nmixup: 0.25\n")
    changes = {"hyp": "hyp.own.yaml", "set": ["degrees=5"], "label_smoothing": 0.1, "keys": ["lr0"]}
    done = search.run(**asked | changes | {"trials": 2})
    content = yaml.safe_load(done.hyp.read_text())
    assert "base" not in content, "a file of the user's may change, or not be there"
    found = load_hyperparameters(done.hyp)
    assert (found.mixup, found.degrees, found.label_smoothing, found.loss.box) == (0.25, 5, 0.1, "sca")
    assert all(call["set"][0] == "degrees=5" for call in calls)
    named = search.run(
        **asked | {"hyp": "hyp.sca.yaml", "set": ["degrees=5"], "trials": 2, "name": "named", "keys": ["lr0"]}
    )
    content = yaml.safe_load(named.hyp.read_text())
    assert content["base"] == "hyp.sca.yaml" and content["degrees"] == 5 and "loss" not in content
    assert load_hyperparameters(named.hyp).loss.box == "sca"
    path = str(ROOT / "data/hyps/hyp.sca.yaml")
    spelled = search.run(**asked | {"hyp": path, "trials": 1, "name": "spelled", "keys": ["lr0"]})
    assert yaml.safe_load(spelled.hyp.read_text()) == {"base": "hyp.sca.yaml"}, "the base itself was the best"


def test_trials_below_the_median_are_pruned(asked: dict, formula, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    formula(lambda hyp, epoch: hyp.lr0 * (epoch + 1))
    done = search.run(**asked | {"trials": 10}, keys=["lr0"])
    rows = rows_of(done.folder)
    pruned = [row for row in rows if row["state"] == "pruned"]
    assert pruned and len(rows) == 10 and done.trials == 10
    assert all(row["epochs"] == ("2" if row["state"] == "pruned" else "3") for row in rows), "epoch 0 is warm-up"
    assert f"10 of 10 trials, {len(pruned)} of them pruned" in caplog.text
    complete = [float(row["fitness"]) for row in rows if row["state"] == "complete"]
    assert done.value == max(complete)


def test_a_training_that_diverges_is_the_worst_trial(asked: dict, formula, caplog: pytest.LogCaptureFixture) -> None:
    def diverging(hyp: Hyperparameters, epoch: int) -> float:
        if hyp.lr0 > 0.001:
            raise DivergenceError("epoch 1: expected a finite box loss but got nan")
        return 0.3

    formula(diverging)
    done = search.run(**asked, keys=["lr0"])
    rows = rows_of(done.folder)
    assert [float(row["fitness"]) for row in rows] == [0.0 if row["diverged"] else 0.3 for row in rows]
    assert rows[0]["diverged"].startswith("epoch 1: expected a finite box loss") and done.value == 0.3
    assert "trial 0: epoch 1: expected a finite box loss but got nan" in caplog.text


def test_another_error_stops_the_search(asked: dict, formula) -> None:
    def broken(hyp: Hyperparameters, epoch: int) -> float:
        raise UserError("no memory")

    formula(broken)
    with pytest.raises(UserError, match="no memory"):
        search.run(**asked, keys=["lr0"])
    formula(peak)
    assert search.run(**asked, keys=["lr0"]).trials == 4


def test_a_name_is_taken_by_one_search(asked: dict, formula) -> None:
    formula(peak)
    search.run(**asked | {"trials": 1}, keys=["lr0"])
    for change, message in (
        ({"keys": ["lr0=0.01:0.02"]}, "lr0 1e-05:0.1 instead of 0.01:0.02"),
        ({"keys": ["lr0", "box"]}, "box nothing instead of 0.02:0.2"),
        ({"epochs": 4}, "epochs 3 instead of 4"),
        ({"seed": 1}, "seed 0 instead of 1"),
        ({"set": ["degrees=1"]}, "degrees the default instead of 1.0"),
        ({"holdout": 0.5}, "holdout 0 instead of 0.5"),
    ):
        with pytest.raises(UserError, match=f"the search of this name has other settings: {message}.* another --name"):
            search.run(**{**asked, "trials": 1, "keys": ["lr0"], **change})
    assert search.run(**asked | {"trials": 2, "pruner": "none", "workers": 1}, keys=["lr0"]).trials == 2


def test_holding_out_keeps_the_validation_set_away(asked: dict, formula, tmp_path: Path) -> None:
    calls = formula(peak)
    search.run(**asked | {"trials": 1})
    assert {call["data"] for call in calls} == {asked["data"]}
    done = search.run(**asked | {"trials": 2, "holdout": 0.25, "name": "held", "keys": ["lr0"]})
    made = read_data_yaml(Path(calls[-1]["data"]))
    whole = list_images(read_data_yaml(Path(asked["data"])), "train")
    assert made.file == done.folder / "data/data.yaml"
    assert sorted(list_images(made, "train") + list_images(made, "val")) == whole
    assert "on 0.25 of the training split." in done.hyp.read_text()


def test_evolve_is_a_search(asked: dict, formula, monkeypatch: pytest.MonkeyPatch) -> None:
    real = train.run
    calls = formula(peak)
    given = {name: value for name, value in asked.items() if name != "trials"}
    done = real(**given, evolve=3, nosave=True, noval=True)
    assert isinstance(done, search.SearchResult) and done.trials == len(calls) == 3
    assert all(call["noval"] and "evolve" not in call for call in calls)
    parser = CommandParser(TrainOptions)
    assert parser.given(["--evolve"]) == {"evolve": 300} and parser.given(["--evolve", "9"]) == {"evolve": 9}
    with pytest.raises(UserError, match=r"--resume is not an option of search\.py: repeat the same command"):
        real(evolve=3, resume=True)
    with pytest.raises(UserError, match="--trials: expected a whole number of at least 1 but got 0"):
        real(**given, evolve=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"exist_ok": True}, "--exist-ok is not an option of search.py: repeat the same command"),
        ({"noval": True}, "--noval is not an option of search.py: --pruner none"),
        ({"trials": 0}, "--trials: expected a whole number of at least 1"),
        ({"what": "pop"}, r"unknown value 'pop'. Known: hyp, pap. Did you mean 'pap'\?"),
        ({"pruner": "mean"}, "unknown value 'mean'. Known: median, none"),
        ({"trails": 3}, r"unknown option 'trails'. .* Did you mean 'trials'\?"),
        ({"holdout": 1.0}, "--holdout: expected a fraction of the training set below 1 but got 1"),
        ({"what": "pap", "holdout": 0.0}, "never on the validation set"),
        ({"what": "pap", "keys": ["lr0"]}, "--keys names hyper-parameters, but --what pap searches curves"),
        ({"keys": ["lr0=1:-1"]}, "LOW below HIGH"),
        ({"keys": ["momentum=0.5:2"]}, "momentum: expected a number from 0 to 1 but got 2"),
        ({"keys": ["loss.box.ratio=0.5:2"]}, "cannot be built|unknown parameter"),
        ({"search_seed": -1}, "--search-seed: expected a whole number of at least 0"),
        ({"data": "shaeps.yaml"}, "Did you mean 'shapes.yaml'"),
        ({"storage": "search.db"}, "--storage: expected the URL of a database"),
    ],
)
def test_what_cannot_be_right_is_said_first(asked: dict, formula, change: dict, message: str) -> None:
    calls = formula(peak)
    with pytest.raises(UserError, match=message):
        search.run(**asked | change)
    assert not calls


def test_without_optuna_it_says_what_to_install(asked: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"^a search needs Optuna: pip install -r requirements-search\.txt$"):
        search.run(**asked)


def test_a_storage_elsewhere_is_shared_under_the_name(asked: dict, formula, tmp_path: Path) -> None:
    formula(peak)
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    search.run(**asked | {"trials": 2, "storage": url})
    done = search.run(**asked | {"trials": 3, "storage": url, "project": str(tmp_path / "another machine")})
    assert len(rows_of(done.folder)) == 3 and not (done.folder / "search.db").exists()
    other = search.run(**asked | {"trials": 1, "storage": url, "name": "other", "seed": 5})
    assert other.trials == 1


def test_keys_that_the_base_has_no_use_for_are_left_out(asked: dict, formula, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    calls = formula(peak)
    name = "of what? #1"  # which means something in the URL of a database
    done = search.run(**asked | {"hyp": "hyp.rs.yaml", "trials": 1, "name": name})
    keys = {text.partition("=")[0] for text in calls[0]["set"]}
    assert {"lr0", "cls", "mosaic"} < keys and not keys & {"obj_pw", "cls_pw"}
    assert "not searched: " in caplog.text and "obj_pw: 0.5 has no effect with loss.score: rs" in caplog.text
    assert (done.folder / "search.db").exists()
    with pytest.raises(UserError, match=r"obj_pw: 0\.5 has no effect with loss\.score: rs"):
        search.run(**asked | {"hyp": "hyp.rs.yaml", "keys": ["obj_pw"]})


def test_pictures(asked: dict, formula) -> None:
    formula(peak)
    done = search.run(**asked | {"noplots": False, "trials": 8, "pruner": "none"}, keys=["lr0", "box"])
    for name in ("history.png", "importances.png"):
        assert (done.folder / name).read_bytes().startswith(b"\x89PNG") and (done.folder / name).stat().st_size > 5000
    assert not (done.folder / "curves.png").exists()


def test_a_real_search(asked: dict) -> None:
    done = search.run(**asked | {"trials": 2, "epochs": 1, "holdout": 0.5}, keys=["lr0"])
    trials = done.folder / "trials"
    assert {path.name for path in trials.iterdir()} == {"0000", "0001"}
    assert (trials / "0001/results.csv").exists() and not (trials / "0001/weights").exists()
    hyps = [yaml.safe_load((trials / name / "hyp.yaml").read_text()) for name in ("0000", "0001")]
    assert hyps[0]["lr0"] == 0.01 != hyps[1]["lr0"] and hyps[0] | {"lr0": 0} == hyps[1] | {"lr0": 0}
    assert yaml.safe_load((trials / "0001/opt.yaml").read_text())["data"].endswith("data/data.yaml")


def test_a_training_tells_its_epochs(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    done = train.run(**options, on_epoch=lambda epoch, metrics: seen.append((epoch, metrics)))
    assert [epoch for epoch, _ in seen] == [0, 1, 2]
    assert max(metrics.fitness for _, metrics in seen) == done.fitness
    seen.clear()
    train.run(**options | {"noval": True, "epochs": 2}, on_epoch=lambda epoch, metrics: seen.append(metrics))
    assert seen[0] is None and seen[1] is not None

    def stop(epoch: int, metrics: object) -> None:
        raise RuntimeError(f"enough after {epoch}")

    closed = []
    monkeypatch.setattr(train.RunLog, "close", lambda run_log: closed.append(run_log.save_dir))
    with pytest.raises(RuntimeError, match="enough after 0"):
        train.run(**options, on_epoch=stop)
    assert len(closed) == 1, "many pruned trials would leave as many open files behind"


def test_command_line(tmp_path: Path) -> None:
    flags = "--what pap --trials 9 --keys lr0 box=0.1:0.2 --img 64 --name n"
    given = CommandParser(SearchOptions).given(flags.split())
    assert given == {"what": "pap", "trials": 9, "keys": ("lr0", "box=0.1:0.2"), "imgsz": 64, "name": "n"}
    command = [sys.executable, str(ROOT / "search.py"), "--trails", "3"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert shown.returncode == 2 and "unknown flag '--trails'. Did you mean '--trials'?" in shown.stderr
    page = CommandParser(SearchOptions).format_help()
    assert "--holdout" in page and "--resume" not in page and "(default: runs/search)" in page


def test_a_plan_keeps_the_options_of_both(asked: dict) -> None:
    plan = make_plan(asked | {"keys": ["lr0"]})
    assert isinstance(plan.own, SearchOptions) and plan.own.trials == 4 and plan.holdout == 0
    assert plan.options.epochs == 3 and plan.folder == Path(asked["project"]) / "s" and "trials" not in plan.given


def test_a_search_of_curves(asked: dict, formula) -> None:
    """Judged by the mAP of held-out training images; what is best is a file of hyper-parameters like any other."""
    calls = formula(lambda hyp, epoch: 1 / (1 + (math.log(hyp.box / 0.1)) ** 2))
    done = search.run(**asked | {"trials": 3, "noplots": False, "pruner": "none"}, what="pap")
    rows = rows_of(done.folder)
    assert done.value == max(float(row["map"]) for row in rows) <= 0.5, "the mAP, not the fitness"
    for call in calls:
        made = read_data_yaml(Path(call["data"]))
        assert len(list_images(made, "val")) == 1 and len(list_images(made, "train")) == 3
    tried = [load_hyperparameters(call["hyp"], call["set"], validate=check_loss_settings) for call in calls]
    assert all(hyp.loss.score == "parameterized_ap" and not hyp.loss.self_balance for hyp in tried)
    assert tried[0].box == 0.3 and len({str(hyp.loss.control_points) for hyp in tried}) == 3
    assert {call["hyp"] for call in calls} == {"hyp.pap-published.yaml"} and tried[0].loss.rank_on == "joint"
    published = load_hyperparameters("hyp.pap-published.yaml").loss.control_points
    assert tried[0].loss.control_points == published, "they come first"
    other = search.run(**asked | {"trials": 1, "name": "straight", "hyp": "hyp.scratch-low.yaml"}, what="pap")
    straight = control_points_from(load_hyperparameters(other.hyp).loss.control_points)
    assert straight.H1[1:3] == ((0.2, 0.2), (0.4, 0.4)), "a base without curves starts at straight lines"
    assert load_hyperparameters(done.hyp) == tried[done.trial]
    assert (done.folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_real_search_of_curves(asked: dict) -> None:
    done = search.run(**asked | {"trials": 2, "epochs": 1, "what": "pap"})
    table = (done.folder / "trials/0001/results.csv").read_text()
    assert "train/rank_loss" in table and done.trials == 2
    again = train.run(
        **{name: asked[name] for name in ("data", "cfg", "imgsz", "batch_size", "workers", "device")},
        epochs=1,
        hyp=str(done.hyp),
        project=asked["project"],
        name="again",
        noplots=True,
    )
    assert again.epochs == 1
