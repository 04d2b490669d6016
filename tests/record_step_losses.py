"""Record the step losses anew after a change that is meant to move them, or those of new cases beside them.

``python -m tests.record_step_losses "reason"`` replaces tests/data/step_losses*.csv by one file and prints which cases
moved how far. ``python -m tests.record_step_losses "gcd is new" --new gcd`` writes the cases that no file holds yet to
tests/data/step_losses.gcd.csv and leaves the others alone. State the same reason in the commit.
"""

from __future__ import annotations

import argparse

from tests.step_losses import (
    CASES,
    FOLDER,
    Record,
    largest_difference,
    machine,
    read_records,
    step_losses,
    write_record,
)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.record_step_losses", description=__doc__.partition("\n")[0])
    parser.add_argument("reason", help="why the losses are recorded; stands in the file")
    parser.add_argument("--new", metavar="NAME", help="record only cases that are new, in a file of this name")
    options = parser.parse_args()
    before = {case: record.losses[case] for case, record in read_records().items()}
    losses = {case: step_losses(case) for case in CASES if not options.new or case not in before}
    for case in sorted(losses if options.new else {*before, *losses}):
        if case not in losses or case not in before:
            print(f"{case}: {'new' if case in losses else 'gone'}")
        elif before[case] != losses[case]:
            print(f"{case}: moved by up to {largest_difference(before[case], losses[case]):.1e} of the loss")
    if not options.new:
        for path in FOLDER.glob("step_losses.*.csv"):
            path.unlink()
    path = FOLDER / (f"step_losses.{options.new}.csv" if options.new else "step_losses.csv")
    write_record(path, Record(machine(), options.reason, losses))
    print(f"{len(losses)} cases are in {path}")


if __name__ == "__main__":
    main()
