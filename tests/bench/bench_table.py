# SPDX-License-Identifier: Apache-2.0
"""The rows of the benchmark's table, and the table."""

import json
import statistics
from dataclasses import dataclass
from typing import Optional

# What a ratio counts, by the kind of its row: of (other, ours).
RATIOS = {
    "time": (lambda other, ours: ours / other, "x the time"),
    "faster": (lambda other, ours: other / ours, "x faster"),
    "rate": (lambda other, ours: ours / other, "x the rate"),
}


@dataclass
class Row:
    """One comparison: `ours` and `other` name series that have one value for each round."""

    section: str
    label: str
    other_label: str
    other: str
    ours: str
    unit: str
    kind: str
    at_most: Optional[float] = None
    at_least: Optional[float] = None
    # What may be missing on a machine.
    needs: Optional[str] = None

    def target(self):
        if self.at_most is not None:
            return f"<= {self.at_most:g}x"
        return f">= {self.at_least:g}x" if self.at_least is not None else ""

    def met(self, ratio):
        """None without a target."""
        if self.at_most is not None:
            return ratio <= self.at_most
        return ratio >= self.at_least if self.at_least is not None else None


def format_value(value, unit):
    if unit == "ns":
        for name, scale in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
            if value >= scale:
                return f"{value / scale:.3g} {name}"
        return f"{value:.0f} ns"
    if unit == "B/s":
        return f"{value / 1e9:.2f} GB/s"
    return f"{value:.0f} /s"


def format_ratio(ratio):
    return f"{ratio:.0f}" if ratio >= 100 else f"{ratio:.1f}" if ratio >= 10 else f"{ratio:.2f}"


def evaluate(row, series, reasons, judge):
    """The row's numbers; the ratio is the median of the rounds' ratios. `judge`: whether the sizes
    are those that the targets are meant for."""
    result = {"section": row.section, "what": row.label, "compared_with": row.other_label,
              "unit": row.unit, "ratio_of": row.kind, "target": row.target()}
    other, ours = series.get(row.other, []), series.get(row.ours, [])
    ratio_of, _ = RATIOS[row.kind]
    if not other or len(other) != len(ours):
        result["not_measured"] = reasons.get(row.section) or reasons.get(row.needs) or "no values"
        return result
    ratios = [ratio_of(*pair) for pair in zip(other, ours)]
    ratio = statistics.median(ratios)
    result.update(other=statistics.median(other), warmfs=statistics.median(ours), ratio=ratio,
                  ratios=ratios, met=row.met(ratio) if judge else None)
    return result


def cells(result):
    head = [result["what"], result["compared_with"]]
    if "not_measured" in result:
        return head + ["-", "-", "not measured", "", result["target"], ""]
    ratios = result["ratios"]
    spread = f"{format_ratio(min(ratios))} - {format_ratio(max(ratios))}" if len(ratios) > 1 else ""
    return head + [format_value(result["other"], result["unit"]),
                   format_value(result["warmfs"], result["unit"]),
                   f"{format_ratio(result['ratio'])}{RATIOS[result['ratio_of']][1]}", spread,
                   result["target"], {True: "yes", False: "NO", None: ""}[result["met"]]]


def print_table(results):
    header = ["what", "compared with", "other", "warmfs", "ratio", "of the rounds", "target", "met"]
    lines = [header] + [cells(result) for result in results]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    right = {2, 3, 4}
    for number, line in enumerate(lines):
        print("  ".join(text.rjust(width) if column in right else text.ljust(width)
                        for column, (text, width) in enumerate(zip(line, widths))).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def print_summary(results, judged):
    verdicts = [result["met"] for result in results if result.get("met") is not None]
    missing = [result for result in results if "not_measured" in result]
    if judged:
        print(f"\n{verdicts.count(True)} targets met, {verdicts.count(False)} missed, "
              f"{len(missing)} rows not measured")
    else:
        print("\nEverything ran but what is not measured; the targets are for other sizes."
              if missing else "\nEverything ran; the targets are for other sizes.")
    for reason in dict.fromkeys(result["not_measured"] for result in missing):
        print(f"  not measured: {reason}")


def write_json(path, machine, results, series):
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"machine": machine, "rows": results, "series": series}, file, indent=1)
        file.write("\n")
