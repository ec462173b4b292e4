"""``report.html``: one file with everything in it, which opens without a network, in light and in dark."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from benchmarks import page_charts as charts
from benchmarks.figures import load_text
from benchmarks.recording import PERCENTILES

STYLE = Path(__file__).with_name("page.css")

Figures = Mapping[str, Any]


def render(report: Figures) -> str:
    """A run's report as a page.

    Args:
        report: the values of ``report.json`` (schema ``humanseg.benchmark.run/2``).
    """
    return document(
        "humanseg benchmark",
        [_head(report), _tiles(report), _charts(report), _tables(report), about(report)],
    )


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page: the parts under one style, with nothing fetched from anywhere."""
    style = STYLE.read_text(encoding="utf-8")
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # An empty icon: browsers would ask a server for one.
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def figure(title: str, under: str, picture: str) -> str:
    """A chart with its words."""
    return f"<figure><figcaption><b>{escape(title)}</b><span>{escape(under)}</span></figcaption>{picture}</figure>"


def table(head: Sequence[str], body: Iterable[Sequence[str]], css: str = "") -> str:
    """A table of text; wide ones scroll within themselves."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in body)
    header = f"<thead><tr>{top}</tr></thead>" if head else ""
    return f'<div class="scroll"><table class="{css}">{header}<tbody>{lines}</tbody></table></div>'


def paragraph(text: str) -> str:
    """Words below a title."""
    return f'<p class="facts">{escape(text)}</p>'


def verdict(report: Figures) -> str:
    """VALID or INVALID, and why."""
    if report["valid"]:
        return '<span class="badge valid">VALID</span>'
    complaints = "".join(f"<li>{escape(text)}</li>" for text in report["complaints"])
    return f'<span class="badge invalid">INVALID: not to be quoted</span><ul class="complaints">{complaints}</ul>'


def _head(report: Figures) -> str:
    served, machine = report["served"], report["machine"]
    server = (
        f"{served['model']} {served['version']} at {served['network_width_px']}x{served['network_height_px']} on"
        f" {served['engine']}"
    )
    where = (
        f"{machine['cpu_model']}, {machine['cpu_cores_usable']} cores, load average"
        f" {machine['load_average_1min']} before the run; {report['created']}"
    )
    return (
        f"<header><h1>humanseg benchmark</h1>{verdict(report)}"
        f'<p class="facts">{escape(load_text(report["load"]))}<br>{escape(server)}<br>{escape(where)}</p></header>'
    )


def _tile(name: str, value: str, unit: str, under: str) -> str:
    return (
        f'<div class="tile"><div class="name">{escape(name)}</div><div class="value">{escape(value)}'
        f' <small>{escape(unit)}</small></div><div class="under">{escape(under)}</div></div>'
    )


def _tiles(report: Figures) -> str:
    summary, frames, server = report["latency_from_intended_send"], report["frames"], report["server"]
    tiles = []
    for name in ("p50", "p99"):
        interval = summary["ci95_ms"].get(name)
        under = f"95 %: {interval[0]:.1f} to {interval[1]:.1f} ms" if interval else "no confidence interval"
        sign = "~" if name in summary["thin"] else ""
        tiles.append(_tile(f"latency {name}", f"{sign}{summary[f'{name}_ms']:.1f}", "ms", under))
    on_time = report["on_time_ratio"]["within_33.3_ms"]
    early = report["on_time_ratio"]["within_16.7_ms"]
    if on_time is not None and early is not None:
        under = f"{100 * early:.1f} % within 16.7 ms"
        tiles.append(_tile("on time, 33.3 ms", f"{100 * on_time:.1f}", "%", under))
    dropped = sum(frames["dropped"].values())
    if frames["sent"]:
        under = f"{dropped} of {frames['sent']} frames"
        tiles.append(_tile("dropped", f"{100 * dropped / frames['sent']:.2f}", "%", under))
    if server["cpu_ms_per_mask"] is not None:
        under = f"{server['cpu_ms_per_mask_beyond_engine_and_fusion']:.2f} ms beyond engine and fusion"
        tiles.append(_tile("server CPU a mask", f"{server['cpu_ms_per_mask']:.2f}", "ms", under))
    efficiency = report["service_efficiency"]
    if efficiency["ratio"] is not None:
        under = f"{efficiency['most_masks_per_s']:.1f} of {efficiency['bare_engine_fps']:.1f} fps of the engine alone"
        tiles.append(_tile("service efficiency", f"{100 * efficiency['ratio']:.0f}", "%", under))
    first = report["first_mask_ms"]
    cold = "cold" if report["served"]["started_here"] else "first session here"
    under = f"{cold}; warm {first['all_sessions'][0]:.0f} to {first['all_sessions'][-1]:.0f} ms"
    tiles.append(_tile("time to first mask", f"{first['very_first']:.0f}", "ms", under))
    return f'<section class="tiles">{"".join(tiles)}</section>'


def _charts(report: Figures) -> str:
    found = []
    runs = charts.offered_runs(report)
    if report["frames"]["masks"]:
        found.append(
            figure(
                "Latency over offered load",
                "from the intended send to the mask; hollow: fewer than 10 samples beyond it; bars: 95 % confidence",
                charts.over_load(runs, report["bare_engine"].get("fps")),
            )
        )
    found.append(figure("Masks and drops", "what became of the frames at each load", charts.answered_and_dropped(runs)))
    if report["stages"]:
        found.append(
            figure(
                "Where a frame's time goes",
                "mean of the main run; unexplained: between the server's stages; transport: gRPC, wire, client",
                charts.stages(report),
            )
        )
    found.append(figure("Latency over time", "of the main run", charts.latency_over_time(report)))
    found.append(figure("Frames over time", "of the main run", charts.frames_over_time(report)))
    if report["server"]["batch_frames"]:
        found.append(figure("Batch sizes", "runs of the engine by the frames in them", charts.batches(report)))
    if len(report["server_samples"]) > 1:
        slope = report["server"]["rss_slope_bytes_per_min"]
        under = "too short a run for a slope" if slope is None else f"slope {slope / 2**20:+.2f} MiB a minute"
        found.append(figure("Memory of the server", under, charts.memory_over_time(report)))
        found.append(figure("CPU of the server", "of the main run", charts.cpu_over_time(report)))
    if report["fairness"]["sessions"] and report["frames"]["masks"]:
        index = report["fairness"]["jain_index"]
        under = "" if index is None else f"Jain's index of the shares answered: {index:.4f} (1: all the same)"
        found.append(figure("Each session", under, charts.sessions(report)))
    return f'<section class="charts">{"".join(found)}</section>'


def _tables(report: Figures) -> str:
    latencies = {
        "from intended send": report["latency_from_intended_send"],
        "from actual send": report["latency_from_actual_send"],
        "generator's lag": report["load_generator_lag"],
        **{f"stage {name}": summary for name, summary in report["stages"].items()},
    }
    head = ["ms", "n", "mean", *PERCENTILES, "max"]
    lines = []
    for name, summary in latencies.items():
        cells = [f"{'~' if one in summary['thin'] else ''}{summary[f'{one}_ms']:.2f}" for one in PERCENTILES]
        lines.append([name, f"{summary['n']:,}", f"{summary['mean_ms']:.2f}", *cells, f"{summary['max_ms']:.2f}"])
    steps = []
    for step in report["ladder"]:
        load = step["load"]
        cells = [f"{load['offered_fps']:.1f}", str(load["sessions"]), f"{load['fps']:g}"]
        if "failed" in step:
            steps.append([*cells, *[""] * 7, f"not taken: {step['failed']}"])
            continue
        summary, on_time = step["latency_from_intended_send"], step["on_time_ratio"]["within_33.3_ms"]
        cells.append(f"{step['frames']['masks_per_s']:.1f}")
        cells += [f"{'~' if one in summary['thin'] else ''}{summary[f'{one}_ms']:.1f}" for one in ("p50", "p95", "p99")]
        cells.append("" if on_time is None else f"{100 * on_time:.1f} %")
        cells.append(str(sum(step["frames"]["dropped"].values())))
        cells += [f"{step['load_generator_lag']['p99_ms']:.1f}", ""]
        steps.append(cells)
    parts = ["<section><h2>Figures</h2>", table(head, lines), "<p>~ fewer than 10 samples beyond it</p>"]
    if steps:
        titles = [
            "offered fps", "sessions", "fps each", "masks/s", "p50", "p95", "p99", "on time 33.3 ms", "dropped",
            "generator's lag p99", "",
        ]  # fmt: skip
        parts += ["<h2>Loads</h2>", table(titles, steps)]
    return "".join([*parts, "</section>"])


def about(report: Figures) -> str:
    """How to judge and repeat it: command, commit, machine, versions, settings."""
    machine = report["machine"]
    facts = [
        ["command", " ".join(report["command"])],
        ["git commit", str(machine["git_commit"])],
        [
            "CPU",
            f"{machine['cpu_model']}, {machine['cpu_cores_usable']} of {machine['cpu_cores_logical']} cores usable",
        ],
        ["memory", f"{machine['memory_bytes'] / 2**30:.1f} GiB"],
        ["system", f"{machine['system']}, Python {machine['python']}"],
        ["packages", ", ".join(f"{name} {version}" for name, version in machine["packages"].items())],
    ]
    if "served" in report:
        settings = report["served"]["settings"].items()
        facts += [
            ["server's settings", ", ".join(f"{name}={value}" for name, value in settings)],
            ["seed", str(report["load"]["seed"])],
            ["clock", f"largest jump {report['clock_jump_ms']:.2f} ms"],
        ]
    return (
        f"<section><h2>Measured on</h2>{table([], facts, 'words')}</section>"
        "<footer>Open loop: every frame has an intended send time, fixed before the run, and its latency counts from"
        " there; a server that stalls shows. How it is measured: docs/performance.md of the project.</footer>"
    )
