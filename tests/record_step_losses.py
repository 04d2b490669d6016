"""Record the step losses anew, after a change that is meant to move them, or for new cases.

``python -m tests.record_step_losses "reason"`` writes tests/data/step_losses.csv and prints which cases moved how far.
State the same reason in the commit.
"""

from __future__ import annotations

import argparse

from tests.step_losses import CASES, FILE, Record, largest_difference, machine, read_record, step_losses, write_record


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.record_step_losses", description=__doc__.partition("\n")[0])
    parser.add_argument("reason", help="why the losses are recorded anew; stands in the file")
    reason = parser.parse_args().reason
    before = read_record().losses if FILE.is_file() else {}
    losses = {case: step_losses(case) for case in CASES}
    for case in sorted({*before, *losses}):
        if case not in losses or case not in before:
            print(f"{case}: {'new' if case in losses else 'gone'}")
        elif before[case] != losses[case]:
            print(f"{case}: moved by up to {largest_difference(before[case], losses[case]):.1e} of the loss")
    write_record(Record(machine(), reason, losses))
    print(f"{len(losses)} cases are in {FILE}")


if __name__ == "__main__":
    main()
