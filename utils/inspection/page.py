"""The page about a data set: one HTML file that needs nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

from utils.inspection.charts import class_bars, heat_map, legend, size_chart
from utils.inspection.examine import Examination
from utils.inspection.findings import KINDS, Finding, group_findings
from utils.inspection.pictures import Picture, pictures
from utils.inspection.report import Report, SplitCounts
from utils.plots.boxes import class_colour

SHOWN = 50  # findings of a kind; the JSON has all
LONGEST = 400  # characters of a message
IN_CAPTION = 4  # findings under a picture
CLASS_KEYS = 20  # classes whose colour in the pictures is told
_TITLES = {
    "labelled": "with labels",
    "background": "without objects",
    "missing": "without a label file",
    "orphan": "label files without image",
    "regions": "regions to ignore",
}

_STYLE = """
*{box-sizing:border-box}
body{font:15px/1.45 system-ui,sans-serif;color:#222;background:#fff;max-width:1100px;margin:0 auto;padding:16px}
h1{font-size:1.5em;margin:.2em 0}h2{font-size:1.15em;margin:1.8em 0 .5em;border-bottom:1px solid #ddd}
p{margin:.4em 0}.path,code,li,figcaption{overflow-wrap:anywhere}.path,.hint,figcaption{color:#555}
.verdict{font-weight:600}.scroll{overflow-x:auto}
table{border-collapse:collapse}th,td{padding:3px 12px 3px 0;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{font-weight:600;border-bottom:1px solid #bbb}
details{border-left:4px solid #999;padding:4px 10px;margin:8px 0;background:#f7f7f7}
details.error{border-color:#c0392b}details.warning{border-color:#d9822b}details.note{border-color:#7f8c8d}
summary{cursor:pointer}summary b{font-weight:600;display:inline}
h3{font-size:1em;margin:.3em 0}summary em{font-style:normal;color:#555}
ul{margin:.4em 0;padding-left:1.2em}li{font-size:13px;margin:2px 0}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,320px),1fr));gap:14px}
figure{margin:0}figure img{width:100%;height:auto;display:block;background:#eee}
figcaption{font-size:12.5px;margin-top:3px}figcaption b{color:#222}
.class{display:grid;grid-template-columns:minmax(60px,22%) 1fr;gap:10px;align-items:center;margin:5px 0}
.class b{font-weight:400;overflow-wrap:anywhere;text-align:right;font-size:13px}
.bar{display:flex;align-items:center;gap:6px;height:13px;font-size:11px;padding-right:60px}
.bar i{height:9px;display:block}.bar span{color:#555;margin-right:-60px;width:54px}
.legend span{display:inline-block;margin-right:14px;font-size:13px}
.legend i{display:inline-block;width:11px;height:11px;margin-right:5px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:20px;align-items:start}
.heat{width:100%;max-width:300px;aspect-ratio:1;image-rendering:pixelated;display:block}
.sizes{width:100%;max-width:440px}.sizes text{font-size:11px;fill:#555}
"""


def page(report: Report, examination: Examination) -> str:
    """The HTML of a report: counts, findings, pictures, charts. All text of the user is escaped."""
    shown = pictures(examination, report.findings)
    root = examination.description.root
    title = f"Data set {report.data.stem}"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f'<h1>{escape(title)}</h1><p class="path">{escape(str(report.data))}, files in {escape(str(root))}</p>',
        f'<p class="verdict">{escape(report.verdict)}{"" if report.usable else "; training would refuse to start"}</p>',
        _counts_table(report),
        "<h2>Findings</h2>",
        *(_group(kind, findings, root) for kind, findings in group_findings(report.findings).items()),
        "" if report.findings else "<p>Nothing was found.</p>",
        "<h2>Images</h2>",
        "<p>Those with most findings, framed in yellow; then others to look at.</p>",
        _class_colours(report.names),
        f'<div class="grid">{"".join(_figure(picture, root) for picture in shown)}</div>',
        "<h2>Objects of each class</h2>",
        class_bars(report.names, examination.histograms),
        _charts(report, examination),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _counts_table(report: Report) -> str:
    """A column for each split: narrow enough for a phone."""
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", *report.splits))
    rows = []
    for column in (name for name in SplitCounts._fields if name != "classes"):
        cells = "".join(f"<td>{getattr(counts, column):,}</td>" for counts in report.splits.values())
        rows.append(f"<tr><td>{_TITLES.get(column, column)}</td>{cells}</tr>")
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _class_colours(names: Sequence[str]) -> str:
    """Which colour a class has in the pictures."""
    keys = []
    for number, name in enumerate(names[:CLASS_KEYS]):
        blue, green, red = class_colour(number)
        keys.append(f'<span><i style="background:rgb({red},{green},{blue})"></i>{escape(name)}</span>')
    return f'<p class="legend">{"".join(keys)}{" ..." if len(names) > CLASS_KEYS else ""}</p>'


def _sentence(text: str) -> str:
    """Escaped, with a capital at its beginning."""
    return escape(text[:1].upper() + text[1:])


def _group(name: str, findings: Sequence[Finding], root: Path) -> str:
    kind = KINDS[name]
    rows = "".join(f"<li>{_text(finding, root)}</li>" for finding in findings[:SHOWN])
    more = f"<li>... and {len(findings) - SHOWN:,} more</li>" if len(findings) > SHOWN else ""
    is_open = " open" if kind.severity == "error" or len(findings) <= 3 else ""
    return (
        f'<details class="{kind.severity}"{is_open}><summary><b>{_sentence(kind.title)}</b> '
        f"<em>{kind.severity}, {len(findings):,}</em></summary>"
        f'<p class="hint">{_sentence(kind.hint)}.</p><ul>{rows}{more}</ul></details>'
    )


def _text(finding: Finding, root: Path) -> str:
    where = _short(finding.where, root)
    text = escape(finding.text.replace(f"{root}{os.sep}", "")[:LONGEST])
    return f"<code>{escape(where)}</code> {text}" if where else text


def _short(path: str, root: Path) -> str:
    return path.removeprefix(f"{root}{os.sep}")


def _figure(picture: Picture, root: Path) -> str:
    texts = [f"{escape(KINDS[finding.kind].name)}: {_text(finding, root)}" for finding in picture.findings]
    if len(texts) > IN_CAPTION:
        texts = [*texts[:IN_CAPTION], f"... and {len(texts) - IN_CAPTION:,} more"]
    width, height = picture.size
    name = escape(_short(picture.path, root))
    caption = "<br>".join([f"<b>{name}</b> ({escape(picture.split)})", *texts])
    return (
        f'<figure><img loading="lazy" width="{width}" height="{height}" alt="{name}" '
        f'src="data:image/jpeg;base64,{picture.jpeg}"><figcaption>{caption}</figcaption></figure>'
    )


def _charts(report: Report, examination: Examination) -> str:
    tables = {name: table for name, table in examination.objects.items() if len(table.classes)}
    if not tables:
        return ""
    heats = "".join(f"<div><h3>{escape(name)}</h3>{heat_map(table)}</div>" for name, table in tables.items())
    anchors = report.anchors
    about = (
        f"<p>{_sentence(str(anchors))}; an anchor, drawn as a square, fits within a factor of {anchors.anchor_t:g} "
        "per side.</p>"
        if anchors
        else ""
    )
    return (
        f"<h2>Where objects are</h2><p>Centres, as a share of the image; bright is many.</p>"
        f'<div class="charts">{heats}</div>'
        f"<h2>How large objects are at {report.image_size} pixels</h2>{about}"
        f"<p>Objects on red ground are too small.</p>{legend(tables)}"
        f"{size_chart(tables, report.image_size, anchors.anchors_px if anchors else ())}"
    )
