"""The table of faults fits the code; running it takes minutes and is left to ``python -m tests.mutants``."""

from __future__ import annotations

from tests.cases import case
from tests.mutants import MUTANTS, ROOT


def test_each_fault_changes_one_place_and_names_its_test() -> None:
    assert len(MUTANTS) >= 60
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        with case(mutant.name):
            text = (ROOT / mutant.file).read_text(encoding="utf-8")
            mutated = mutant.mutated(text)
            compile(mutated, mutant.file, "exec")
            assert mutated != text
            assert (ROOT / mutant.tests).is_file()


def test_they_cover_losses_criterion_and_assigners() -> None:
    for package in ("utils/losses/box/", "utils/losses/ranking/", "utils/criterion/", "utils/assigners/"):
        assert sum(mutant.file.startswith(package) for mutant in MUTANTS) >= 10, package
