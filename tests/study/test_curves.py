"""The picture of a study, from the results of runs as files."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
from matplotlib.axes import Axes

import study
from utils.errors import UserError

HEADER = "epoch,metrics/mAP_0.5:0.95,metrics/mAP_0.75"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two presets; the second run of the first stopped an epoch earlier, and validated every other epoch."""
    write(tmp_path / "exp/iou/0", "0,0.1,0.0", "1,0.3,0.2", "2,0.5,0.4")
    write(tmp_path / "exp/iou/1", "0,0.3,0.0", "1,,")
    write(tmp_path / "exp/sca/0", "0,0.2,0.1", "1,0.4,0.3")
    return tmp_path


def write(folder: Path, *lines: str) -> None:
    folder.mkdir(parents=True)
    (folder / "results.csv").write_text("\n".join((HEADER, *lines)))


def drawn(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, list], list]:
    """What axes are given from now on: points by label, and bands."""
    lines, bands = {}, []
    plot, fill = Axes.plot, Axes.fill_between

    def plotted(axes, x, y, **style):
        lines[style["label"]] = [list(x), pytest.approx(list(y))]
        return plot(axes, x, y, **style)

    def filled(axes, x, low, high, **style):
        bands.append(pytest.approx(list(high - low)))
        return fill(axes, x, low, high, **style)

    monkeypatch.setattr(Axes, "plot", plotted)
    monkeypatch.setattr(Axes, "fill_between", filled)
    return lines, bands


def test_mean_and_spread_over_seeds(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, bands = drawn(monkeypatch)
    path = study.plot(project=runs, metric="map")
    assert lines == {"iou (2 seeds)": [[1, 2, 3], [0.2, 0.3, 0.5]], "sca (1 seed)": [[1, 2], [0.2, 0.4]]}
    assert bands == [[2 * 0.1 * 2**0.5, 0, 0], [0, 0]]
    assert path == runs / "exp/curves.png"
    assert cv2.imread(str(path)) is not None


def test_a_panel_for_each_metric_and_presets_in_the_order_asked_for(runs, monkeypatch):
    lines, bands = drawn(monkeypatch)
    output = runs / "picture.png"
    assert study.plot(project=runs, metric=["map", "map75"], presets=["sca", "iou"], output=output) == output
    assert list(lines) == ["sca (1 seed)", "iou (2 seeds)"]
    assert len(bands) == 4


def test_what_cannot_be_right_is_refused(runs):
    with pytest.raises(UserError, match=r"unknown metric 'mpa'.*map75.*Did you mean 'map'"):
        study.plot(project=runs, metric=["mpa"])
    with pytest.raises(UserError, match=r"unknown preset 'ciou'\. Known: iou, sca"):
        study.plot(project=runs, metric="map", presets=["ciou"])
    with pytest.raises(UserError, match="olrp is in the results of no run"):
        study.plot(project=runs, metric="olrp")
    with pytest.raises(UserError, match="no runs of a study"):
        study.plot(project=runs, name="other")
    assert not (runs / "exp/curves.png").exists()
