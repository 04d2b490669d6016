"""Networks: sizes, outputs and the YAML that they are built from."""

from __future__ import annotations

import itertools
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from models import build_model
from models.architecture import read_architecture
from models.layers import Conv
from models.yolo import count_gflops
from tests.cases import case
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]

# parameters with 80 classes and with 1, entries of the state dict, strides
SIZES = {
    "yolov5n": (1_872_157, 1_765_270, 349, (8, 16, 32)),
    "yolov5s": (7_235_389, 7_022_326, 349, (8, 16, 32)),
    "yolov5m": (21_190_557, 20_871_318, 481, (8, 16, 32)),
    "yolov5l": (46_563_709, 46_138_294, 613, (8, 16, 32)),
    "yolov5x": (86_749_405, 86_217_814, 745, (8, 16, 32)),
    "yolov5n6": (3_246_940, 3_094_312, 459, (8, 16, 32, 64)),
    "yolov5s6": (12_626_620, 12_322_312, 459, (8, 16, 32, 64)),
    "yolov3-tiny": (8_852_366, 8_669_876, 71, (16, 32)),
    "yolov3": (61_949_149, 61_523_734, 439, (8, 16, 32)),
    "yolov3-spp": (62_998_749, 62_573_334, 445, (8, 16, 32)),
}
# billions of operations of the convolutions at 640 pixels
CONVOLUTION_GFLOPS = {"yolov5n": 4.5, "yolov5s": 16.4, "yolov5n6": 4.6, "yolov3-tiny": 13.2}


def tiny_cfg(**changes: object) -> dict:
    """A network of five rows with two levels, strides 8 and 16."""
    cfg = {
        "anchors": [[10, 13, 16, 30], [30, 61, 62, 45]],
        "backbone": [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [8, 3, 2]]],
        "head": [[-1, 1, "Conv", [16, 3, 2]], [[2, 3], 1, "Detect", ["nc", "anchors"]]],
    }
    return cfg | changes


def test_sizes() -> None:
    for name in SIZES:
        with case(name):
            eighty, one, entries, strides = SIZES[name]
            model = build_model(f"{name}.yaml")
            assert sum(parameter.numel() for parameter in model.parameters()) == eighty
            assert len(model.state_dict()) == entries and model.stride == strides
            if name in ("yolov5n", "yolov5n6", "yolov3-tiny"):  # three heads; the others are wider, and slow to build
                model = build_model(f"{name}.yaml", nc=1)
            else:
                head = [model.head.m[level].in_channels for level in range(len(strides))]
                one += sum(3 * 79 * (channels + 1) for channels in head)
            assert sum(parameter.numel() for parameter in model.parameters()) == one


def test_parameter_names() -> None:
    names = set(build_model("yolov5n.yaml").state_dict())
    assert {
        "model.0.conv.weight",
        "model.0.bn.running_mean",
        "model.2.cv1.conv.weight",
        "model.2.m.0.cv1.conv.weight",
        "model.24.m.0.weight",
        "model.24.m.2.bias",
        "model.24.anchors",
    } <= names
    assert "model.4.1.cv2.conv.weight" in build_model("yolov3.yaml").state_dict()


def test_gflops() -> None:
    """thop counts activations too, so it lies a little above; torch's own counter is the second opinion."""
    from torch.utils.flop_counter import FlopCounterMode

    for name in CONVOLUTION_GFLOPS:
        with case(name):
            model = build_model(f"{name}.yaml").eval()
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                model.raw(torch.zeros(1, 3, 640, 640))
            assert counter.get_total_flops() / 1e9 == pytest.approx(CONVOLUTION_GFLOPS[name], abs=0.06)
            assert CONVOLUTION_GFLOPS[name] * 0.99 < count_gflops(model) < CONVOLUTION_GFLOPS[name] * 1.08


def test_output_shape() -> None:
    for name, count in [("yolov5n", 25_200), ("yolov3-tiny", 6_000), ("yolov5n6", 25_500)]:
        with case(name, count):
            model = build_model(f"{name}.yaml", nc=2)
            images = torch.zeros(1, 3, 640, 640)
            with torch.no_grad():
                assert model.eval()(images).shape == (1, count, 7)
            small = model.train()(torch.zeros(2, 3, 128, 192))
            assert [tuple(level.shape) for level in small] == [(2, 3, 128 // s, 192 // s, 7) for s in model.stride]


def test_decode_by_hand() -> None:
    """Raw zeros: the centre is the middle of the cell, the size is the anchor; order is level, anchor, row, column."""
    model = build_model(tiny_cfg(), nc=1).eval()
    raw = [torch.zeros(1, 2, 2, 3, 6), torch.zeros(1, 2, 1, 2, 6)]
    raw[0][0, 1, 1, 2] = torch.tensor([30.0, -30.0, 30.0, -30.0, 0.0, 30.0])
    boxes = model.decode(raw)[0]
    assert boxes.shape == (2 * 2 * 3 + 2 * 1 * 2, 6)
    assert boxes[0].tolist() == [4, 4, 10, 13, 0.5, 0.5]
    assert boxes[4].tolist() == [12, 12, 10, 13, 0.5, 0.5], "row 1, column 1"
    # last cell of the first level: column 2, row 1; the centre at its limits 1.5 and -0.5, size 4 anchors and none
    assert boxes[11].tolist() == pytest.approx([(2 + 1.5) * 8, (1 - 0.5) * 8, 4 * 16, 0, 0.5, 1], abs=1e-6)
    assert boxes[12].tolist() == [8, 8, 30, 61, 0.5, 0.5], "first anchor of the second level"


def test_bias_initialisation() -> None:
    """The golden numbers of the contract: what is added to the objectness and class biases."""
    for nc, expected in ((80, -4.880274), (20, -3.455265), (2, -0.510836), (1, 11.002100)):
        torch.manual_seed(0)
        head = build_model(tiny_cfg(), nc=nc).head
        bias = head.m[0].bias.detach().view(2, -1)
        spread = 1 / 8**0.5  # of the default initialisation, by the number of inputs
        assert (bias[:, 4] + 6.684612).abs().max() <= spread
        assert (bias[:, 5:] - expected).abs().max() <= spread
    averages = [level.bias.view(3, -1)[:, 4].mean().item() for level in build_model("yolov5n6.yaml").head.m]
    assert averages == pytest.approx([-6.684612, -5.298317, -3.912023, -2.525729], abs=0.15)


def test_fusing_changes_nothing() -> None:
    torch.manual_seed(0)
    model = build_model("yolov5n.yaml", nc=2).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = model(images)
        after = model.fuse()(images)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    assert torch.allclose(before, after, rtol=1e-4, atol=1e-4)


def test_sppf_equals_spp() -> None:
    from models.layers import SPP, SPPF

    spp, sppf = SPP(8, 8).eval(), SPPF(8, 8).eval()
    sppf.load_state_dict(spp.state_dict())
    x = torch.randn(1, 8, 20, 20)
    assert torch.equal(spp(x), sppf(x))


def test_autocast_keeps_the_head_in_float32() -> None:
    model = build_model("yolov5n.yaml", nc=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(level.dtype == torch.float32 for level in model(torch.rand(1, 3, 64, 64)))


def test_anchors_follow_the_order_of_the_levels() -> None:
    flipped = build_model(tiny_cfg(anchors=[[30, 61, 62, 45], [10, 13, 16, 30]]), nc=1)
    assert torch.allclose(flipped.anchors_px, build_model(tiny_cfg(), nc=1).anchors_px)
    assert flipped.anchors_px[0].tolist() == [[10, 13], [16, 30]]
    new = torch.tensor([[[5.0, 6.0], [7.0, 8.0]], [[50.0, 60.0], [70.0, 80.0]]])
    flipped.set_anchors_px(new)
    assert torch.allclose(build_model(flipped.cfg, nc=1).anchors_px, new)
    assert torch.allclose(flipped.decode([torch.zeros(1, 2, 1, 1, 6)] * 2)[0, 0, 2:4], new[0, 0])


def test_depth_width_and_activation() -> None:
    cfg = tiny_cfg(width_multiple=1.3, depth_multiple=0.5, activation="nn.LeakyReLU(0.2)")
    cfg["backbone"] = [*cfg["backbone"][:2], [-1, 1, "Conv", [8, 3, 2]]]
    cfg["head"] = [[-1, 4, "Bottleneck", [16]], [-1, 1, "Conv", [16, 3, 2]], [[3, 4], 1, "Detect", ["nc", "anchors"]]]
    model = build_model(cfg, nc=1)
    assert model.model[0].conv.out_channels == 16, "8 x 1.3 = 10.4, up to the next multiple of 8"
    assert len(model.model[3]) == 2, "4 x 0.5 repeats"
    assert model.model[0].act.negative_slope == 0.2


DETECT = [[0, 1], 1, "Detect", ["nc", "anchors"]]


def first_row(*row: object) -> dict:
    """Two rows and a head, of which the first is to be wrong."""
    return {"backbone": [list(row)], "head": [[-1, 1, "Conv", [16, 3, 2]], DETECT]}


WRONG = {
    "module": (first_row(-1, 1, "Convv", [8, 3, 2]), r"backbone row 0: unknown module 'Convv'.*Did you mean 'Conv'"),
    "module name": (first_row(-1, 1, ["Conv"], [8]), r"backbone row 0: unknown module"),
    "arguments": (first_row(-1, 1, "Conv", [8, 3, 2, 1, 1, 1, 1, 1, 1]), r"backbone row 0: Conv does not take"),
    "no arguments": (
        first_row(-1, 1, "Conv", []),
        r"backbone row 0: Conv: expected the output channels .* but got \[\]",
    ),
    "text channels": (first_row(-1, 1, "Conv", ["64", 3]), r"row 0: Conv: expected the output channels .*\['64', 3\]"),
    "text kernel": (first_row(-1, 1, "Conv", [64, "3"]), r"row 0: Conv does not take \[64, '3'\]"),
    "negative channels": (first_row(-1, 1, "Conv", [-8]), r"row 0: Conv: expected the output channels"),
    "groups": (first_row(-1, 1, "Conv", [8, 3, 1, None, 3]), r"row 0: Conv does not take .*divisible by groups"),
    "arguments no list": (first_row(-1, 1, "Conv", 8), r"row 0: Conv: expected a list of arguments but got 8"),
    "text number": (first_row(-1, "3", "Conv", [8]), r"row 0: expected 'number' to be a whole number.* but got '3'"),
    "number 0": (first_row(-1, 0, "Conv", [8]), r"row 0: expected 'number' to be a whole number, 1 or more, but got 0"),
    "row": (first_row(-1, 1, "Conv"), r"row 0: expected \[from, number, module, args\]"),
    "row no list": ({"backbone": ["Conv"]}, r"row 0: expected \[from, number, module, args\] but got Conv"),
    "source ahead": ({"head": [[7, 1, "Conv", [8]]]}, r"head row 0, in all row 3: expected 'from' below 3.* but got 7"),
    "source before the image": (first_row(-2, 1, "Conv", [8]), r"row 0: expected 'from' below 0, or -1 .* but got -2"),
    "source no number": (first_row("a", 1, "Conv", [8]), r"row 0: expected 'from' to be a row number.* but got 'a'"),
    "no source": (first_row([], 1, "Conv", [8]), r"row 0: expected 'from' to be a row number.* but got \[\]"),
    "stride 0": (
        first_row(-1, 1, "Conv", [8, 3, 0]),
        r"row 0: Conv \[8, 3, 0\] cannot take an input of \(1, 3, 128, 128\)",
    ),
    "groups 0": (first_row(-1, 1, "Conv", [8, 3, 1, None, 0]), r"row 0: Conv does not take .*"),
    "several for one": (first_row([-1], 1, "Conv", [8]), r"row 0: Conv: expected 'from' to be one row number.*\[-1\]"),
    "one for several": ({"head": [[-1, 1, "Detect", ["nc", "anchors"]]]}, r"Detect: expected 'from' to be a list"),
    "dimension": (first_row([-1], 1, "Concat", [7]), r"row 0: Concat \[7\] cannot take an input of"),
    "unequal maps": (
        {"head": [[[0, 1], 1, "Concat", [1]], DETECT]},
        r"head row 0, in all row 3: Concat \[1\] cannot take an input of \(1, 8, 64, 64\), \(1, 8, 32, 32\): ",
    ),
    "detect": ({"head": [[[1, 2], 1, "Detect", ["nc"]]]}, r"Detect: expected the arguments \[nc, anchors\]"),
    "no head": ({"head": [[-1, 1, "Conv", [8]]]}, "expected Detect as the last row but got Conv"),
    "empty head": ({"head": []}, "head: expected a list of rows but got"),
    "few anchors": ({"anchors": [[10, 13]]}, "expected 2 lists"),
    "null anchors": ({"anchors": None}, "anchors: expected a list for each level.* but got None"),
    "odd anchors": ({"anchors": [[10, 13, 16], [30, 61, 62]]}, "anchors: expected a list for each level"),
    "text anchors": ({"anchors": [["10", 13], [30, 61]]}, "anchors: expected a list for each level"),
    "no number of anchors": ({"anchors": 0}, "anchors: expected a list for each level.* but got 0"),
    "key": ({"depth_multipel": 1.0}, r"unknown key 'depth_multipel'.*Did you mean 'depth_multiple'"),
    "width": ({"width_multiple": "0.5x"}, "width_multiple: expected a number above 0 but got '0.5x'"),
    "channels of the image": ({"ch": 0}, "ch: expected a whole number, 1 or more, but got 0"),
    "activation": ({"activation": "nn.Swish()"}, "activation: unknown activation 'nn.Swish'"),
    "parameter": ({"activation": "nn.ReLU(foo=1)"}, r"activation: nn\.ReLU\(foo=1\) cannot be built: .*'foo'"),
    "slope": ({"activation": "nn.LeakyReLU(steep)"}, r"activation: nn\.LeakyReLU\(steep\) cannot be built: "),
    "code": ({"activation": "__import__('os')"}, "activation: expected a text like"),
    "no text": ({"activation": 3}, "activation: expected a text like .* but got 3"),
}


def test_wrong_yaml() -> None:
    for name, (changes, message) in WRONG.items():
        with case(name), pytest.raises(UserError, match=message):
            build_model(tiny_cfg(**changes), nc=1)


def test_wrong_files_are_named_with_the_line_or_the_row(tmp_path: Path) -> None:
    def message(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError) as caught:
            build_model(tmp_path / name, nc=1)
        return str(caught.value)

    shipped = (ROOT / "models" / "yolov3-tiny.yaml").read_text()
    wrong_row = shipped.replace("[128, 1, 1]", "[]")
    assert wrong_row != shipped
    assert "own.yaml: head row 3, in all row 16: Conv: expected the output channels" in message("own.yaml", wrong_row)
    assert "own.yaml: head row 3" in message("child.yaml", "base: own.yaml\nwidth_multiple: 0.5\n")
    wide = message("child.yaml", "base: yolov3-tiny.yaml\nwidth_multiple: wide\n")
    assert wide.endswith("child.yaml:2: width_multiple: expected a number above 0 but got 'wide'")
    assert "child.yaml:2: unknown key 'widht_multiple'" in message("child.yaml", "base: own.yaml\nwidht_multiple: 1\n")
    assert "child.yaml:2: base: unknown model YAML 'none.yaml'" in message("child.yaml", "nc: 1\nbase: none.yaml\n")
    assert "child.yaml:3: not valid YAML: key 'nc' is given twice" in message("child.yaml", "nc: 1\nch: 3\nnc: 2\n")


def test_every_row_is_scaled_by_the_width() -> None:
    """Also one whose channels happen to be 8 anchors x (5 + 3 classes)."""
    model = build_model({"base": "yolov5n.yaml", "anchors": 8}, nc=3)
    assert model.model[0].conv.out_channels == 16, "64 x 0.25"


def test_a_bug_in_a_layer_is_no_error_of_the_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, method in itertools.product((AttributeError, AssertionError, KeyError), ("forward", "__init__")):
        with case(error, method), monkeypatch.context() as patched:
            patched.setattr(Conv, method, Mock(side_effect=error("a bug")))
            with pytest.raises(error, match="a bug"):
                build_model(tiny_cfg(), nc=1)


def test_checking_draws_no_random_numbers() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    read_architecture("yolov5n.yaml")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_unknown_file_and_base_in_a_circle(tmp_path, monkeypatch) -> None:
    with pytest.raises(UserError, match=r"unknown model YAML 'yolov5p.yaml'. Known: yolov3-spp.yaml.*Did you mean"):
        build_model("yolov5p.yaml")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(UserError, match="inherits from itself"):
        build_model("a.yaml")
