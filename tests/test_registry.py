"""Registries: what is built, what is refused and how, and that a bug is not taken for a wrong setting."""

from __future__ import annotations

from typing import Any

import pytest

from utils.errors import ContradictionError, UserError
from utils.parameters import Checked, Choice, Count, Flag, Number
from utils.registry import Info, Registry


def registry() -> Registry[Info, dict[str, Any]]:
    known: Registry[Info, dict[str, Any]] = Registry("filter")
    parameters = {
        "size": Number(1.0, 0, 5, above=True),
        "times": Count(2),
        "sharp": Flag(False),
        "unit": Choice("px", ("px", "mm")),
    }
    known.add(Info(name="blur", build=dict, parameters=parameters, block_keys=("size",)))
    known.add(Info(name="plain", build=dict))
    return known


def test_parameters_are_checked_and_default() -> None:
    assert registry().build("blur") == {"size": 1.0, "times": 2, "sharp": False, "unit": "px"}
    found = registry().build_from({"name": "blur", "size": "1e-1", "unit": "mm", "sharp": True, "times": 3})
    assert found == {"size": 0.1, "times": 3, "sharp": True, "unit": "mm"}
    assert registry().build_from("plain") == {}


def test_wrong_settings_are_explained() -> None:
    for setting, message in (
        ("blurr", r"^unknown filter 'blurr'\. Known: blur, plain\. Did you mean 'blur'\?$"),
        ({"name": "blur", "sise": 1}, r"^unknown parameter of the filter 'blur' 'sise'\. Known: .*mean 'size'"),
        ({"name": "plain", "size": 1}, r"^unknown parameter of the filter 'plain' 'size'\. Known: none"),
        ({"name": "blur", "size": 0}, r"^blur: size: expected a number above 0 and at most 5 but got 0$"),
        ({"name": "blur", "size": True}, r"^blur: size: expected a number above 0 and at most 5 but got True$"),
        ({"name": "blur", "times": 1.5}, r"^blur: times: expected a whole number of at least 1 but got 1\.5$"),
        ({"name": "blur", "sharp": 1}, r"^blur: sharp: expected true or false but got 1$"),
        ({"name": "blur", "unit": "m"}, r"^blur: unit: unknown value 'm'\. Known: mm, px\. Did you mean 'mm'\?$"),
        ({"size": 1}, r"^expected the name of a filter, or a mapping with 'name' and parameters, but got"),
        (None, r"^expected the name of a filter, or a mapping with 'name' and parameters, but got None\. Known: blur"),
    ):
        with pytest.raises(UserError, match=message):
            registry().build_from(setting)


def test_a_key_of_the_block_sets_a_parameter_but_not_a_second_time() -> None:
    known = registry()
    assert known.build_with_block("blur", {"size": 3, "other": 1}, "image.")["size"] == 3
    assert known.build_with_block({"name": "blur", "size": 4}, {}, "image.")["size"] == 4
    assert known.build_with_block("plain", {"size": 3}, "image.") == {}
    with pytest.raises(ContradictionError, match=r"^image\.size: 3 and the parameter size: 4 of the filter 'blur' set"):
        known.build_with_block({"name": "blur", "size": 4}, {"size": 3}, "image.")


def test_a_bug_in_a_builder_is_no_wrong_setting() -> None:
    known: Registry[Info, Any] = Registry("filter")

    def broken(size: float) -> float:
        return size + "pixels"  # type: ignore[operator]

    def wrong_signature() -> None: ...

    def unlucky(size: float) -> float:
        raise ValueError("somewhere inside")

    for build in (broken, wrong_signature, unlucky):
        known.add(Info(name=build.__name__, build=build, parameters={"size": Number(1.0)}))
    known.add(Info(name="broken_check", build=dict, parameters={"size": Checked(1, len)}))
    with pytest.raises(TypeError):
        known.build("broken_check", size=3)
    for name, error in (("broken", TypeError), ("wrong_signature", TypeError), ("unlucky", ValueError)):
        with pytest.raises(error) as caught:
            known.build(name)
        assert not isinstance(caught.value, UserError), name


def test_what_a_check_refuses_is_a_wrong_setting() -> None:
    def refuse(**values: object) -> None:
        raise ValueError("not both")

    known: Registry[Info, Any] = Registry("filter")
    known.add(Info(name="odd", build=dict, parameters={"size": Checked(1, int)}, check_together=refuse))
    with pytest.raises(UserError, match=r"^odd: size: invalid literal for int"):
        known.build("odd", size="x")
    with pytest.raises(UserError, match=r"^odd: not both$"):
        known.build("odd")


def test_a_name_is_taken_once() -> None:
    known = registry()
    with pytest.raises(ValueError, match="filter 'plain' is registered already"):
        known.add(Info(name="plain", build=dict))
    assert known.names() == list(known) == ["blur", "plain"]
