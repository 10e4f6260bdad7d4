"""The validation as a page to read."""

from typing import Any


def write_summary(report: dict[str, Any]) -> str:
    """Markdown: gates that fell, detectors, corruptions at their values, and robustness."""
    fallen = [gate for gate in report["gates"] if not gate["passed"]]
    lines = [
        "# Validation of the physics detectors",
        "",
        f"{len(report['gates'])} gates, {len(fallen)} fell. Seeds from {report['first_seed']}, "
        f"thresholds {report['thresholds_sha256'][:12]}, {report['seconds']:.0f} s"
        + (", quick" if report["quick"] else "")
        + ".",
        "",
    ]
    if fallen:
        lines += ["| gate that fell | value | bound | clips |", "|---|---|---|---|"]
        lines += [
            f"| {g['name']} | {g['value']:.4f} | {g['bound']} | {g['clips']} |" for g in fallen
        ]
    lines += [
        "",
        *_detectors(report),
        "",
        *_corruptions(report),
        "",
        *_decoded(report),
        "",
        *_robustness(report),
        "",
    ]
    return "\n".join(lines)


def _detectors(report: dict[str, Any]) -> list[str]:
    lines = [
        "## Detectors, each alone",
        "",
        "Any one of a corruption's targets is enough, so recall alone may be low.",
        "",
        "| detector | fires on clean | precision | recall alone | AUROC alone |",
        "|---|---|---|---|---|",
    ]
    for row in report["detectors"]:
        figures = [row[key] for key in ("precision", "recall_alone", "auroc_alone")]
        shown = " | ".join("–" if value is None else f"{value:.4f}" for value in figures)
        lines.append(f"| {row['detector']} | {row['fired_clean']} of {row['clean']} | {shown} |")
    return lines


def _corruptions(report: dict[str, Any]) -> list[str]:
    lines = [
        "## Corruptions: who fires",
        "",
        "| family | corruption | value | caught | AUROC | fired | off target |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report["corruptions"]:
        fired = " ".join(f"{name}:{count}" for name, count in row["fired"].items())
        off = " ".join(f"{name}:{count}" for name, count in row["off_target"].items())
        lines.append(
            f"| {row['family']} | {row['corruption']} | {row['value']:g} | "
            f"{row['caught']}/{row['clips']} | {row['auroc']:.4f} | {fired} | {off} |"
        )
    return lines


def _decoded(report: dict[str, Any]) -> list[str]:
    rows = report["decoded"]
    clips, caught, failed = (sum(r[key] for r in rows) for key in ("clips", "caught", "failed"))
    lines = [
        "## Corruptions after an encode-decode of the embedded autoencoder",
        "",
        f"Of {clips} clips at nominal values {caught} are caught by their targets and {failed} "
        "fail. Not all are caught of:",
        "",
        "| family | corruption | caught | failed |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {r['family']} | {r['corruption']} | {r['caught']}/{r['clips']} | "
        f"{r['failed']}/{r['clips']} |"
        for r in rows
        if r["caught"] < r["clips"]
    ]
    return lines


def _robustness(report: dict[str, Any]) -> list[str]:
    lines = [
        "## Clean clips, and what may happen to them",
        "",
        "| family | what | passed | measurable |",
        "|---|---|---|---|",
    ]
    for row in report["robustness"]:
        what = f"{row['kind']} {row['name']} {row['value'] or ''}".strip()
        lines.append(
            f"| {row['family']} | {what} | {row['passed']}/{row['clips']} | "
            f"{row['measurable']}/{row['clips']} |"
        )
    return lines
