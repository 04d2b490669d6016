"""Settings files and hyper-parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from utils.assigners import ASSIGNERS
from utils.config.hyperparameters import Hyperparameters
from utils.config.loading import load_hyperparameters
from utils.config.schema import SettingError
from utils.config.yaml_files import key_lines, load_yaml
from utils.errors import UserError
from utils.losses import BOX_LOSSES, SCORE_LOSSES


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# ---- YAML -----------------------------------------------------------------------------------------------------------


def test_yaml_numbers_without_a_point_are_numbers(tmp_path):
    content = load_yaml(write(tmp_path / "a.yaml", "a: 1e-3\nb: -2E5\nc: 1e-3x\nd: 12\n"))
    assert content == {"a": 0.001, "b": -200000.0, "c": "1e-3x", "d": 12}
    assert isinstance(content["d"], int)


def test_yaml_errors_name_file_and_line(tmp_path):
    cases = [
        ("a: 1\nb: [1, 2\nc: 3\n", r"a\.yaml:\d: not valid YAML"),
        ("a: 1\nb: 2\na: 3\n", r"a\.yaml:3: .*'a' is given twice, first in line 1"),
        ("a:\n  x: 1\n  x: 2\n", r"a\.yaml:3: .*'x' is given twice, first in line 2"),
        ("- 1\n- 2\n", r"a\.yaml: expected a mapping .* but found list"),
        ("# nothing\n", r"a\.yaml: expected a mapping .* but found nothing"),
        ("a: !!python/object/apply:os.getcwd []\n", r"a\.yaml:1: not valid YAML"),
        ("? [1, {}]\n: 2\n", r"a\.yaml:1: not valid YAML"),
        ("a: 2024-13-45\n", r"a\.yaml: not valid YAML: month"),
    ]
    for text, message in cases:
        with pytest.raises(UserError, match=message):
            load_yaml(write(tmp_path / "a.yaml", text))


def test_yaml_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        load_yaml(tmp_path / "missing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(UserError, match="not UTF-8"):
        load_yaml(tmp_path / "latin.yaml")


def test_yaml_merge_keys_stay_possible(tmp_path):
    text = "low: &low {a: 1, b: 2}\nhigh:\n  <<: *low\n  b: 3\n"
    assert load_yaml(write(tmp_path / "a.yaml", text))["high"] == {"a": 1, "b": 3}


def test_key_lines(tmp_path):
    path = write(tmp_path / "a.yaml", "# note\na: 1\nloss:\n  box: sca\n")
    assert key_lines(path) == {("a",): 2, ("loss",): 3, ("loss", "box"): 4}


# ---- hyper-parameters -----------------------------------------------------------------------------------------------


def test_bases_are_merged_block_by_block(tmp_path):
    write(tmp_path / "grand.yaml", "lr0: 0.5\nloss: {box: {name: sca, weight: 2}, score: focal}\n")
    write(tmp_path / "parent.yaml", "base: grand.yaml\nlrf: 0.25\nloss:\n  box: giou\n")
    child = write(tmp_path / "child.yaml", "base: parent.yaml\nmomentum: 0.5\n")
    hyp = load_hyperparameters(child)
    assert (hyp.lr0, hyp.lrf, hyp.momentum) == (0.5, 0.25, 0.5)
    assert hyp.loss.box == "giou"  # replaced whole, nothing of the mapping is left
    assert hyp.loss.score == "focal"


def test_a_base_may_be_a_shipped_preset(tmp_path):
    hyp = load_hyperparameters(write(tmp_path / "mine.yaml", "base: hyp.sca.yaml\nlr0: 0.5\n"))
    assert (hyp.loss.box, hyp.lr0) == ("sca", 0.5)


def test_circular_bases_are_an_error(tmp_path):
    write(tmp_path / "a.yaml", "base: b.yaml\n")
    write(tmp_path / "b.yaml", "base: a.yaml\n")
    with pytest.raises(UserError, match=r"circle: a\.yaml -> b\.yaml -> a\.yaml"):
        load_hyperparameters(tmp_path / "a.yaml")


def test_errors_name_the_file_and_line_that_hold_the_mistake(tmp_path):
    write(tmp_path / "base.yaml", "lr0: 0.1\nmomentum: 2\n")
    child = write(tmp_path / "child.yaml", "base: base.yaml\nlr0: 0.2\n")
    with pytest.raises(UserError, match=r"base\.yaml:2: momentum: expected a number from 0 to 1 but got 2"):
        load_hyperparameters(child)
    with pytest.raises(UserError, match=r"a\.yaml:3: loss: unknown key 'bx'.*Did you mean 'box'"):
        load_hyperparameters(write(tmp_path / "a.yaml", "lr0: 0.1\nloss:\n  bx: ciou\n"))
    with pytest.raises(UserError, match=r"b\.yaml:1: unknown base file 'nowhere\.yaml'"):
        load_hyperparameters(write(tmp_path / "b.yaml", "base: nowhere.yaml\n"))
    with pytest.raises(UserError, match=r"c\.yaml:2: base: expected the name of a file but got 3"):
        load_hyperparameters(write(tmp_path / "c.yaml", "lr0: 1\nbase: 3\n"))


def test_overrides_of_a_name_with_parameters():
    cases = [
        (["loss.box=sca"], "sca"),
        (["loss.box.ratio=0.7"], {"name": "ciou", "ratio": 0.7}),
        (["loss.box=inner", "loss.box.of=ciou", "loss.box.ratio=7e-1"], {"name": "inner", "of": "ciou", "ratio": 0.7}),
        (["loss.box={name: wiou, version: 3}"], {"name": "wiou", "version": 3}),
        (["loss.box={name: wiou, version: 3}", "loss.box=iou"], "iou"),
        (["loss={box: iou}"], "iou"),
    ]
    for overrides, expected in cases:
        assert load_hyperparameters("hyp.scratch-low.yaml", overrides).loss.box == expected, overrides


def buildable(hyp: Hyperparameters) -> None:
    BOX_LOSSES.build_from(hyp.loss.box)
    SCORE_LOSSES.build_from(hyp.loss.score)
    ASSIGNERS.build_from(hyp.assigner)


def test_what_cannot_be_built_is_refused_with_file_and_line(tmp_path):
    cases = [
        ("loss:\n  box: ciuo\n", r"a\.yaml:3: loss\.box: unknown box loss 'ciuo'.*Did you mean 'ciou'"),
        (
            "loss:\n  score: {name: focal, gama: 2}\n",
            r"a\.yaml:3: loss\.score: unknown parameter .*mean 'gamma'",
        ),
        (
            "loss:\n  score: {name: focal, gamma: x}\n",
            r"a\.yaml:3: loss\.score: focal: gamma: expected a number of at least 0 but got 'x'",
        ),
        (
            "loss:\n  score: {name: focal, gamma: -1}\n",
            r"a\.yaml:3: loss\.score: focal: gamma: expected a number of at least 0 but got -1",
        ),
        ("loss:\n  score: {gamma: 1}\n", r"a\.yaml:3: loss\.score: expected a name, or a mapping with 'name'"),
        ("assigner: anchor_ration\n", r"a\.yaml:2: assigner: unknown assigner .*Did you mean 'anchor_ratio'"),
        ("assigner: {anchor_t: 3}\n", r"a\.yaml:2: assigner: expected a name, or a mapping with 'name'"),
        ("loss: 0\n", r"a\.yaml:2: loss: expected a mapping but got 0"),
    ]
    for text, message in cases:
        with pytest.raises(UserError, match=message):
            load_hyperparameters(write(tmp_path / "a.yaml", f"lr0: 0.1\n{text}"), validate=buildable)


def test_overrides_are_validated_when_all_are_applied():
    with pytest.raises(UserError, match=r"--set loss\.score\.gamma=x: loss\.score: focal: gamma: expected a number"):
        load_hyperparameters({}, ["loss.score=focal", "loss.score.gamma=x", "lr0=1"], validate=buildable)
    hyp = load_hyperparameters({}, ["loss.score=unheard", "loss.score=focal", "loss.score.gamma=2"], validate=buildable)
    assert hyp.loss.score == {"name": "focal", "gamma": 2}


def test_settings_that_contradict_each_other_are_refused_in_the_end():
    def consistent(hyp: Hyperparameters) -> None:
        if hyp.fl_gamma > 0 and hyp.loss.score != "bce":
            raise UserError("fl_gamma and loss.score contradict each other")

    load_hyperparameters({"fl_gamma": 1}, validate=consistent)
    with pytest.raises(UserError, match=r"^hyper-parameters: fl_gamma and loss\.score contradict each other"):
        load_hyperparameters({"fl_gamma": 1, "loss": {"score": "focal"}}, validate=consistent)


def test_overrides_of_the_assigner():
    hyp = load_hyperparameters({}, ["assigner=atss", "assigner.candidates=5"], validate=buildable)
    assert hyp.assigner == {"name": "atss", "candidates": 5}
    with pytest.raises(UserError, match=r"--set assigner\.candidates=0: assigner: atss: candidates: expected"):
        load_hyperparameters({}, ["assigner=atss", "assigner.candidates=0"], validate=buildable)


def test_on_and_off_are_words_however_yaml_reads_them(tmp_path):
    for text, expected in (("on", "on"), ("off", "off"), ("auto", "auto"), ("true", "on"), ("'off'", "off")):
        path = write(tmp_path / "a.yaml", f"loss: {{class_bce: {text}}}\n")
        assert load_hyperparameters(path).loss.class_bce == expected, text
    with pytest.raises(UserError, match=r"a\.yaml:1: loss\.class_bce: unknown value 'of'.*Did you mean 'off'"):
        load_hyperparameters(write(tmp_path / "a.yaml", "loss: {class_bce: of}\n"))


def test_an_error_carries_its_key():
    for mapping, key in (({"lr0": "x"}, ("lr0",)), ({"loss": {"bx": 1}}, ("loss", "bx")), ({"loss": 3}, ("loss",))):
        with pytest.raises(SettingError, match=r"^here: ") as caught:
            Hyperparameters.from_mapping(mapping, "here")
        assert caught.value.key == key


def test_no_anchors_may_be_written_as_0():
    assert load_hyperparameters({"anchors": 0}).anchors is None
    with pytest.raises(UserError, match="anchors: expected a number but got False"):
        load_hyperparameters({"anchors": False})


def test_overrides_win_over_files_and_keywords_over_overrides():
    hyp = load_hyperparameters("hyp.sca.yaml", ["lr0=1e-3", "mosaic=0"], label_smoothing=0.1, mosaic=0.5)
    assert (hyp.lr0, hyp.mosaic, hyp.label_smoothing, hyp.loss.box) == (0.001, 0.5, 0.1, "sca")


def test_wrong_overrides_are_explained():
    cases = [
        ("lr0", "--set lr0: expected KEY=VALUE"),
        ("lr=1", r"--set lr=1: unknown key 'lr'.*Did you mean"),
        ("lr0=fast", "--set lr0=fast: lr0: expected a number of at least 0 but got 'fast'"),
        ("lr0.x=1", "expected a key, loss.KEY, loss.KEY.PARAMETER or assigner.PARAMETER"),
        ("loss.bx.ratio=1", "expected a key, loss.KEY, loss.KEY.PARAMETER or assigner.PARAMETER"),
        ("loss.bx=1", "unknown key 'bx'.*Did you mean 'box'"),
        ("loss.box=[1", "--set .*not valid YAML"),
    ]
    for override, message in cases:
        with pytest.raises(UserError, match=message):
            load_hyperparameters("hyp.scratch-low.yaml", [override])


def test_a_mapping_serves_as_a_file_and_is_not_changed():
    mapping = {"lr0": 0.5, "loss": {"box": "giou"}}
    hyp = load_hyperparameters(mapping, ["loss.box=diou"])
    assert (hyp.lr0, hyp.loss.box) == (0.5, "diou")
    assert mapping == {"lr0": 0.5, "loss": {"box": "giou"}}
    assert load_hyperparameters(hyp.to_mapping()) == hyp


def test_an_empty_mapping_gives_the_defaults():
    assert load_hyperparameters({}) == Hyperparameters()
