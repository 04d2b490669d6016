"""The study of a search: exactly as many trials as asked for, whoever trains them, and none lost with its process."""

from __future__ import annotations

import datetime
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from utils.errors import UserError
from utils.search import trials as search_trials
from utils.search.trials import open_study, places, quiet_optuna, run_trial

ROOT = Path(__file__).resolve().parents[2]
START = {"x": 0.25}
# A process of the search that is killed in its second trial.
VICTIM = """
import sys, time
from utils.search import trials as search_trials
search_trials.HEARTBEAT, search_trials.GRACE = 1, 2
study = search_trials.open_study(sys.argv[1], "s", 0, prune_after=None, start={"x": 0.25})
def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    if trial.number == 1:
        print("training", x, flush=True)
        time.sleep(600)
    return x
while True:
    search_trials.run_trial(study, objective, 6)
"""


def opened(folder: Path, seed: int = 0, prune_after: int | None = None) -> optuna.Study:
    return open_study(f"sqlite:///{folder / 'search.db'}", "s", seed, prune_after=prune_after, start=START)


def objective(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0, 1) * trial.suggest_float("y", 1e-3, 1, log=True)


def work(study: optuna.Study, num_trials: int, function=objective) -> None:
    with quiet_optuna():
        now, deadline = places(study, num_trials), time.monotonic() + 60
        while now.is_open or now.running:
            assert time.monotonic() < deadline, "a trial is waited for that nobody trains"
            if now.is_open:
                run_trial(study, function, num_trials)
            else:
                time.sleep(0.05)
            now = places(study, num_trials)


def states(study: optuna.Study) -> Counter:
    return Counter(trial.state for trial in study.get_trials(deepcopy=False))


def tried(study: optuna.Study) -> list[dict]:
    return [trial.params for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]


def test_a_stopped_search_goes_on_as_if_it_had_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the trials that are drawn without looking at results, here three."""
    monkeypatch.setattr(search_trials, "STARTUP_TRIALS", 3)
    for name in ("whole", "parts", "other"):
        (tmp_path / name).mkdir()
    work(opened(tmp_path / "whole"), 5)
    for num_trials in (1, 3, 5):
        work(opened(tmp_path / "parts"), num_trials)
        assert states(opened(tmp_path / "parts")) == {TrialState.COMPLETE: num_trials}
    whole = tried(opened(tmp_path / "whole"))
    assert tried(opened(tmp_path / "parts")) == whole and whole[0]["x"] == START["x"]
    assert len({params["x"] for params in whole}) == 5, "no two are alike"
    work(opened(tmp_path / "other", seed=1), 3)
    assert tried(opened(tmp_path / "other", seed=1))[1:] != whole[1:3]
    work(opened(tmp_path / "parts"), 2)
    assert len(tried(opened(tmp_path / "parts"))) == 5, "enough is enough"


def test_workers_share_the_trials_exactly(tmp_path: Path) -> None:
    """All of them want the last place at once: they wait for one another before each trial."""
    studies, running, most = [opened(tmp_path) for _ in range(3)], [], []

    def slow(trial: optuna.Trial) -> float:
        running.append(trial.number)
        most.append(len(running))
        time.sleep(0.02)
        value = objective(trial)
        running.remove(trial.number)
        return value

    threads = [threading.Thread(target=work, args=(study, 10, slow)) for study in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    study = opened(tmp_path)
    assert states(study)[TrialState.COMPLETE] == 10 and states(study)[TrialState.RUNNING] == 0
    assert len({tuple(params.values()) for params in tried(study)}) == 10, "none is trained twice"
    assert max(most) > 1, "they did work at the same time"


def test_who_comes_too_late_gives_its_place_back(tmp_path: Path) -> None:
    study = opened(tmp_path)
    work(study, 2)
    calls = []
    with quiet_optuna():
        run_trial(study, lambda trial: calls.append(trial) or 0.0, 2)  # as if it had seen an open place before
    assert not calls and states(study) == {TrialState.COMPLETE: 2, TrialState.FAIL: 1}
    work(study, 3)
    assert states(study)[TrialState.COMPLETE] == 3


@pytest.mark.parametrize("signed", [False, True], ids=["before the first heartbeat", "after it"])
def test_a_trial_left_running_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, signed: bool
) -> None:
    monkeypatch.setattr(search_trials, "GRACE", 1)
    study = opened(tmp_path)
    work(study, 2)
    with pytest.warns(UserWarning, match="Heartbeat"):
        lost = study.ask()
    drawn = lost.suggest_float("x", 0, 1)
    if signed:
        lost.set_user_attr(search_trials.WORKER, "elsewhere:7")
        study._storage.record_heartbeat(lost._trial_id)
    assert places(study, 4) == (2, True, (2,)), "it is believed alive for a while"
    begun = datetime.datetime.now()
    work(opened(tmp_path), 4)
    study = opened(tmp_path)
    assert states(study) == {TrialState.COMPLETE: 4, TrialState.FAIL: 1}
    assert study.get_trials()[2].state == TrialState.FAIL
    assert sum(params["x"] == drawn for params in tried(study)) == 1, "with the same parameters"
    assert datetime.datetime.now() - begun < datetime.timedelta(seconds=20)
    worker = "elsewhere:7" if signed else "a process that is gone"
    assert f"trial 2 was left unfinished by {worker} and is repeated" in caplog.text


def test_a_killed_process_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_trials, "HEARTBEAT", 1)
    monkeypatch.setattr(search_trials, "GRACE", 2)
    url = f"sqlite:///{tmp_path / 'search.db'}"
    victim = subprocess.Popen([sys.executable, "-c", VICTIM, url], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    drawn = float(victim.stdout.readline().split()[1])
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    study = opened(tmp_path)
    assert states(study) == {TrialState.COMPLETE: 1, TrialState.RUNNING: 1}
    work(study, 2, lambda trial: trial.suggest_float("x", 0, 1))  # nothing to do but wait for it
    assert states(study) == {TrialState.COMPLETE: 2, TrialState.FAIL: 1}
    assert sum(params["x"] == drawn for params in tried(study)) == 1


def test_an_interrupted_trial_waits_to_be_repeated(tmp_path: Path) -> None:
    seen = []

    def interrupted(trial: optuna.Trial) -> float:
        seen.append(objective(trial))
        raise KeyboardInterrupt

    study = opened(tmp_path)
    work(study, 1)
    with pytest.raises(KeyboardInterrupt):
        work(study, 3, interrupted)
    assert states(study) == {TrialState.COMPLETE: 1, TrialState.FAIL: 1, TrialState.WAITING: 1}
    work(opened(tmp_path), 3)
    study = opened(tmp_path)
    assert states(study) == {TrialState.COMPLETE: 3, TrialState.FAIL: 1}
    assert [trial.value for trial in study.get_trials()][2] == seen[0]


def test_an_error_stops_the_search_and_its_place_is_free_again(tmp_path: Path) -> None:
    def broken(trial: optuna.Trial) -> float:
        raise UserError("no such data")

    study = opened(tmp_path)
    with pytest.raises(UserError, match="no such data"):
        work(study, 2, broken)
    work(study, 2)
    assert states(study) == {TrialState.COMPLETE: 2, TrialState.FAIL: 1}


def test_a_trial_given_to_another_process_is_told_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A machine that slept: when it wakes up, its trial has long been declared lost."""
    study = opened(tmp_path)

    def overtaken(trial: optuna.Trial) -> float:
        opened(tmp_path).tell(trial.number, state=TrialState.FAIL)
        return objective(trial)

    with quiet_optuna():
        run_trial(study, overtaken, 2)
    assert "trial 0 sent no heartbeat for a while, and another process repeats it" in caplog.text
    assert states(study) == {TrialState.FAIL: 1}


def test_pruning_counts_as_finished(tmp_path: Path) -> None:
    """Five trials are never pruned, then a trial below the median of the others at an epoch is, once warmed up."""

    def falling(trial: optuna.Trial) -> float:
        for epoch in range(4):
            trial.report(1 / (trial.number + 1), epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return 1 / (trial.number + 1)

    study = opened(tmp_path, prune_after=2)
    work(study, 8, falling)
    found = study.get_trials()
    assert [trial.state for trial in found] == [TrialState.COMPLETE] * 5 + [TrialState.PRUNED] * 3
    assert len(found[5].intermediate_values) == 3, "epochs 0 and 1 are left alone"
    assert places(study, 8) == (8, False, ()) and places(study, 9).is_open


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("search.db", r"--storage: expected the URL of a database, .* but got 'search.db'"),
        ("sqlite:////no/such/folder/search.db", r"--storage sqlite:////no/such/folder/search.db: cannot be used"),
        ("nosql://user:secret@host/s", r"--storage nosql://user:\*\*\*@host/s: cannot be used"),
    ],
)
def test_a_storage_that_cannot_be_used(url: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_trials.time, "sleep", lambda seconds: None)
    with pytest.raises(UserError, match=message) as error:
        open_study(url, "s", 0, prune_after=None, start=START)
    assert "secret" not in str(error.value)
