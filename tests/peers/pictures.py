"""Draws each dashboard from the answers that the panel test got, so that people see what they get. A likeness, not Grafana:
places, titles, units, colours and data are those of the dashboard; the drawing is matplotlib's.
"""

import math
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import matplotlib

matplotlib.use("Agg")
import matplotlib.dates
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

# Grafana's dark theme and named colours
BACK, PANEL, LINE, TEXT, FAINT = "#111217", "#181b1f", "#2b2e35", "#ccccdc", "#8e8e9b"
NAMED = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2", "yellow": "#fade2a", "purple": "#b877d9", "text": TEXT,
         "transparent": TEXT}
CLASSIC = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#96d98d", "#ffcb7d", "#ff7383", "#ca95e5", "#fade2a"]
CELL_W, CELL_H = 0.68, 0.40  # inches of a grid cell
COLUMNS_MAX = 9


def number(value):
    return float(value) if isinstance(value, (int, float, Decimal)) else None


def spoken(value, unit=None, decimals=None):
    """A value as Grafana would write it, near enough."""
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    if isinstance(value, bool):
        return str(value).lower()
    if number(value) is None:
        return str(value)
    value = float(value)
    if math.isnan(value):
        return "–"

    def scaled(steps, base):
        for factor, name in steps:
            if abs(value) >= factor:
                return f"{value / factor:.{1 if decimals is None else decimals}f} {name}"
        return f"{value:.{decimals or 0}f} {base}"

    if unit == "percentunit":
        return f"{value * 100:.{1 if decimals is None else decimals}f} %"
    if unit == "s":
        if 0 < abs(value) < 1:
            return f"{value * 1000:.{1 if abs(value) < 0.1 else 0}f} ms"
        return scaled(((86400 * 7, "weeks"), (86400, "days"), (3600, "hours"), (60, "min")), "s")
    if unit == "ms":
        return f"{value:.0f} ms"
    if unit == "bytes":
        return scaled(((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")), "B")
    names = {"volt": "V", "amp": "A", "watt": "W", "hertz": "Hz", "kwatth": "kWh", "m3": "m³", "celsius": "°C", "ops": "ops/s", "reqps": "req/s"}
    name = names.get(unit, unit.removeprefix("suffix:") if unit and unit.startswith("suffix:") else "")
    if unit == "watt" and abs(value) >= 1000:
        value, name = value / 1000, "kW"
    if unit == "kwatth" and abs(value) >= 1000:
        value, name = value / 1000, "MWh"
    if decimals is None and unit is None and value == int(value):
        return f"{value:.0f}"
    if decimals is None:
        decimals = 0 if value == int(value) or abs(value) >= 100 else 2 if abs(value) < 10 else 1
    return f"{value:,.{decimals}f} {name}".strip()


def threshold(value, thresholds):
    colour = TEXT
    for step in thresholds["steps"]:
        if step["value"] is None or (number(value) is not None and number(value) >= step["value"]):
            colour = NAMED.get(step["color"], step["color"])
    return colour


def mapped(value, mappings):
    for mapping in mappings or ():
        if mapping["type"] == "value" and str(value) in mapping["options"]:
            return mapping["options"][str(value)]
    return None


class Looks:
    """Settings of a field: the defaults with the overrides that match its name."""

    def __init__(self, panel, name, unit=None):
        import re
        self.all = dict(panel["fieldConfig"]["defaults"])
        if unit:
            self.all["unit"] = unit
        for override in panel["fieldConfig"]["overrides"]:
            matcher = override["matcher"]
            hit = matcher["options"] == name if matcher["id"] == "byName" else re.fullmatch(matcher["options"], name)
            if hit:
                self.all |= {one["id"]: one["value"] for one in override["properties"]}

    def get(self, key, default=None):
        return self.all.get(key, default)

    def colour(self, index):
        fixed = self.get("color") or {}
        return NAMED.get(fixed.get("fixedColor"), CLASSIC[index % len(CLASSIC)]) if fixed.get("mode") == "fixed" else CLASSIC[index % len(CLASSIC)]

    @property
    def hidden(self):
        return bool(self.get("custom.hidden"))


def when(value):
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc)
    return datetime.fromtimestamp(float(value), timezone.utc)


def series(panel, answers):
    """(name, times, values) of each line of a panel, whether SQL or PromQL brought it."""
    for target in panel["targets"]:
        answer = answers.get(target["refId"])
        if answer is None or target["refId"] == "unit":
            continue
        if isinstance(answer, list):  # Prometheus
            for one in answer:
                legend = target["legendFormat"]
                for label, value in one["metric"].items():
                    legend = legend.replace("{{%s}}" % label, value)
                points = one.get("values") or [one["value"]]
                yield (legend.strip() if "{{" not in legend and legend != "__auto" else ""), [when(at) for at, _ in points], [float(v) for _, v in points]
            continue
        columns, rows = answer
        if "time" not in columns:
            continue
        at = columns.index("time")
        if "metric" in columns:
            by, value = columns.index("metric"), next(i for i, c in enumerate(columns) if c not in ("time", "metric"))
            for name in dict.fromkeys(row[by] for row in rows):
                mine = [row for row in rows if row[by] == name]
                yield name, [when(row[at]) for row in mine], [number(row[value]) for row in mine]
            continue
        for index, name in enumerate(columns):
            if index != at and any(number(row[index]) is not None for row in rows):
                yield name, [when(row[at]) for row in rows], [number(row[index]) for row in rows]


def unit_of(answers):
    found = answers.get("unit")
    return found[1][0][0] if found else None


def nothing(axes, panel):
    axes.text(0.5, 0.5, panel["fieldConfig"]["defaults"].get("noValue", "no data"), color=FAINT, ha="center", va="center", transform=axes.transAxes)
    axes.axis("off")


def plain(axes):
    axes.set_facecolor(PANEL)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, labelsize=7, length=0)


def legend(axes, count, beside=None):
    if count:
        handles = [handle for one in (axes, beside) if one for handle in one.get_legend_handles_labels()[0]]
        # below the labels of the axis, however low the panel is
        low = -0.25 / (axes.get_position().height * axes.figure.get_size_inches()[1])
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(-0.02, low), ncol=min(count, 6), frameon=False, fontsize=6.5, labelcolor=TEXT,
                    handlelength=1.2, columnspacing=1.2, borderaxespad=0)


def timeseries(axes, panel, answers):
    custom, unit = panel["fieldConfig"]["defaults"]["custom"], unit_of(answers)
    lines = list(series(panel, answers))
    if not lines:
        return nothing(axes, panel)
    plain(axes)
    base, names, left, right = {}, 0, axes, None
    # bars of all series are as wide as the shortest step between any two of their times
    moments = sorted({time for _, times, _ in lines[:12] for time in times})
    step = min((b - a for a, b in zip(moments, moments[1:])), default=None)
    # so many that gaps between them would be less than a pixel
    dense = bool(step) and (moments[-1] - moments[0]) / step > 80
    width = (step.total_seconds() / 86400 if step else 0.03) * (1.0 if dense else 0.8)
    for index, (name, times, values) in enumerate(lines[:12]):
        looks = Looks(panel, name, unit)
        axes, stacked, bars = left, custom["stacking"]["mode"] == "normal", looks.get("custom.drawStyle", custom["drawStyle"]) == "bars"
        if looks.get("custom.axisPlacement") == "right":
            # an axis of its own, and nothing is stacked upon it
            axes = right = right or beside(left, looks)
            stacked = False
        colour = looks.colour(index)
        filled = [math.nan if value is None else value for value in values]
        shown = [0 if stacked and math.isnan(v) else v for v in filled]
        if stacked:
            shown = [v + base.get(t, 0) for t, v in zip(times, shown)]
        label = looks.get("displayName") or name
        names += bool(label)
        if bars:
            axes.bar(times, [s - base.get(t, 0) for t, s in zip(times, shown)], bottom=[base.get(t, 0) for t in times], width=width, color=colour,
                     label=label or None, align="edge", linewidth=0)
        else:
            style = looks.get("custom.lineStyle")
            axes.plot(times, shown, color=colour, linewidth=looks.get("custom.lineWidth", 2) * 0.6, label=label or None,
                      linestyle={"dash": "--", "dot": ":"}.get(style["fill"], "-") if style else "-",
                      drawstyle="steps-post" if custom["lineInterpolation"] == "stepAfter" else "default",
                      marker="." if looks.get("custom.showPoints", custom["showPoints"]) == "always" else None)
            fill = looks.get("custom.fillOpacity", custom["fillOpacity"])
            if fill:
                axes.fill_between(times, shown, [base.get(t, 0) for t in times], color=colour, alpha=fill / 100, linewidth=0,
                                  step="post" if custom["lineInterpolation"] == "stepAfter" else None)
        if stacked:
            base |= dict(zip(times, shown))
    axes, defaults = left, panel["fieldConfig"]["defaults"]
    if "min" in defaults or "max" in defaults:
        axes.set_ylim(defaults.get("min"), defaults.get("max"))
    if defaults["custom"]["thresholdsStyle"]["mode"] != "off":
        for step in defaults["thresholds"]["steps"]:
            if step["value"] is not None and step["color"] != "transparent":
                axes.axhline(step["value"], color=NAMED[step["color"]], linewidth=0.8, linestyle="--")
    looks = Looks(panel, next((name for name, _, _ in lines if Looks(panel, name).get("custom.axisPlacement") != "right"), lines[0][0]), unit)
    if not any(value for _, _, values in lines for value in values):
        axes.set_ylim(0, 1)
    axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=looks.get("decimals") == 0))
    measured(axes.yaxis, looks.get("unit"), looks.get("decimals", 0 if looks.get("unit") == "percentunit" else None))
    if right:
        right.set_ylim(bottom=0)
        right.grid(visible=False)
    if len(moments) == 1:
        axes.set_xlim(moments[0] - timedelta(minutes=5), moments[0] + timedelta(minutes=1))
    axes.xaxis.set_major_locator(matplotlib.dates.AutoDateLocator(maxticks=7))
    axes.xaxis.set_major_formatter(matplotlib.dates.ConciseDateFormatter(axes.xaxis.get_major_locator(), show_offset=False))
    axes.margins(x=0.01)
    legend(axes, names, right)


def beside(axes, looks):
    """A second axis, on the right."""
    right = axes.twinx()
    for side in right.spines.values():
        side.set_visible(False)
    right.tick_params(colors=FAINT, labelsize=7, length=0)
    right.yaxis.set_major_formatter(lambda value, _: spoken(value, looks.get("unit"), looks.get("decimals")))
    right.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=looks.get("unit") == "bytes"))
    return right


def measured(axis, unit, decimals):
    """Labels of an axis, with as many decimals more as tell one tick from the next."""
    ticks = axis.get_major_locator().tick_values(*axis.get_view_interval())
    for more in range(4):
        few = decimals if more == 0 else (decimals or 0) + more
        if len({spoken(tick, unit, few) for tick in ticks}) == len(ticks):
            break
    axis.set_major_formatter(lambda value, _: spoken(value, unit, few))


def barchart(axes, panel, answers):
    columns, rows = answers.get("A", ([], []))
    if not rows:
        return nothing(axes, panel)
    plain(axes)
    options, unit = panel["options"], unit_of(answers)
    x, fields = columns.index(options["xField"]), [i for i, c in enumerate(columns) if c != options["xField"]]
    labels, stacked, across = [str(row[x]) for row in rows], options["stacking"] == "normal", options["orientation"] == "horizontal"
    places, width = list(range(len(rows))), 0.8 if stacked else 0.8 / len(fields)
    base = [0.0] * len(rows)
    for index, column in enumerate(fields):
        values = [number(row[column]) or 0 for row in rows]
        colour = Looks(panel, columns[column]).colour(index)
        at = places if stacked else [p + index * width - 0.4 + width / 2 for p in places]
        draw = axes.barh if across else axes.bar
        draw(at, values, width, **{"left" if across else "bottom": base if stacked else 0}, color=colour, alpha=0.85, label=columns[column])
        base = [b + v for b, v in zip(base, values)]
    looks = Looks(panel, columns[fields[0]], unit)
    axis, other = (axes.xaxis, axes.yaxis) if across else (axes.yaxis, axes.xaxis)
    axis.set_major_formatter(lambda value, _: spoken(value, looks.get("unit"), 0 if looks.get("unit") == "percentunit" else None))
    whole = all((number(row[column]) or 0) % 1 == 0 for row in rows for column in fields)
    axis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=whole))
    shown = places if across else places[::max(1, len(places) // 12)]
    other.set_ticks(shown, [labels[p][:22] for p in shown])
    if across:
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color=LINE, linewidth=0.6)
    legend(axes, len(fields))


def stat(axes, panel, answers):
    axes.axis("off")
    shown = []
    for target in panel["targets"]:
        answer = answers.get(target["refId"])
        if answer is None or target["refId"] == "unit":
            continue
        if isinstance(answer, list):
            shown += [("", float((one.get("values") or [one["value"]])[-1][1]), one) for one in answer[:2]]
        else:
            columns, rows = answer
            shown += [(name, value, None) for name, value in zip(columns, rows[-1] if rows else [])]
    if not shown or all(value is None for _, value, _ in shown):
        return nothing(axes, panel)
    for index, (name, value, one) in enumerate(shown):
        looks = Looks(panel, name, unit_of(answers))
        mapping = mapped(int(value) if isinstance(value, float) and value.is_integer() else value, looks.get("mappings"))
        text = mapping["text"] if mapping else spoken(value, looks.get("unit"), looks.get("decimals"))
        colour = NAMED[mapping["color"]] if mapping else threshold(value, looks.get("thresholds"))
        middle = (index + 0.5) / len(shown)
        size = 22 if len(text) < 9 and len(shown) == 1 else 15 if len(text) < 12 and len(shown) < 3 else 10
        axes.text(middle, 0.52, text, color=colour, ha="center", va="center", fontsize=size, transform=axes.transAxes)
        if len(shown) > 1:
            axes.text(middle, 0.1, name, color=FAINT, ha="center", va="center", fontsize=7.5, transform=axes.transAxes)
        if one and one.get("values") and panel["options"]["graphMode"] == "area" and len(shown) == 1:
            values = [float(v) for _, v in one["values"]]
            low, span = min(values), (max(values) - min(values)) or 1
            xs = [i / max(1, len(values) - 1) for i in range(len(values))]
            axes.fill_between(xs, [(v - low) / span * 0.25 for v in values], color=colour, alpha=0.25, transform=axes.transAxes, linewidth=0)


def table(axes, panel, answers):
    axes.axis("off")
    answer = answers.get("A")
    if isinstance(answer, list):
        if not answer:
            return nothing(axes, panel)
        labels = sorted({key for one in answer for key in one["metric"]})
        columns = labels + ["95 % below"]
        rows = [[one["metric"].get(label, "") for label in labels] + [float(one["value"][1])] for one in answer]
        rows.sort(key=lambda row: -row[-1] if not math.isnan(row[-1]) else 0)
    else:
        columns, rows = answer or ([], [])
    if not rows:
        return nothing(axes, panel)
    looks = [Looks(panel, name) for name in columns]
    kept = [i for i in range(len(columns)) if not looks[i].hidden][:COLUMNS_MAX]
    place = panel["gridPos"]
    count = max(1, int(place["h"] * CELL_H / 0.235) - 3)

    def cell(i, value):
        mapping = mapped(value, looks[i].get("mappings"))
        return mapping["text"] if mapping else spoken(value, looks[i].get("unit"), looks[i].get("decimals"))

    weights = [max([len(looks[i].get("displayName") or columns[i])] + [min(30, len(cell(i, row[i]))) for row in rows[:count]]) + 3 for i in kept]
    total, left = sum(weights), 0.0
    for i, weight in zip(kept, weights):
        room = max(4, int(weight / total * place["w"] * CELL_W / 0.068))
        axes.text(left, 0.99, (looks[i].get("displayName") or columns[i])[:room], color="#6e9fff", fontsize=7, va="top", transform=axes.transAxes)
        for n, row in enumerate(rows[:count]):
            text, colour = cell(i, row[i]), TEXT
            kind = (looks[i].get("custom.cellOptions") or {}).get("type")
            if kind == "color-text":
                mapping = mapped(row[i], looks[i].get("mappings"))
                colour = NAMED[mapping["color"]] if mapping else threshold(row[i], looks[i].get("thresholds"))
            elif looks[i].get("links"):
                colour = "#8ab8ff"
            axes.text(left, 0.99 - (n + 1.25) / (count + 1.6), text[:room], color=colour, fontsize=7, va="top", transform=axes.transAxes)
        left += weight / total
    if len(rows) > count:
        axes.text(1, -0.02, f"{len(rows)} rows", color=FAINT, fontsize=6.5, ha="right", va="bottom", transform=axes.transAxes)


def timeline(axes, panel, answers):
    columns, rows = answers.get("A", ([], []))
    if not rows:
        return nothing(axes, panel)
    plain(axes)
    axes.grid(visible=False)
    ends = [when(row[0]) for row in rows[1:]] + [datetime.now(timezone.utc)]
    for row, end in zip(rows, ends):
        begin, mapping = when(row[0]), mapped(row[1], panel["fieldConfig"]["defaults"]["mappings"])
        axes.barh(0, (end - begin).total_seconds() / 86400, left=matplotlib.dates.date2num(begin), height=0.7,
                  color=NAMED[mapping["color"]] if mapping else CLASSIC[0], alpha=0.8)
    axes.set_yticks([0], ["state"])
    axes.xaxis_date()
    axes.xaxis.set_major_formatter(matplotlib.dates.ConciseDateFormatter(matplotlib.dates.AutoDateLocator(maxticks=8), show_offset=False))
    axes.margins(x=0)


KINDS = {"timeseries": timeseries, "barchart": barchart, "stat": stat, "table": table, "state-timeline": timeline}


def draw_board(board, answers, file):
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    wide, tall = 24 * CELL_W, height * CELL_H + 0.6
    figure = plt.figure(figsize=(wide, tall), facecolor=BACK)
    figure.text(0.1 / wide, 1 - 0.3 / tall, f"Polyphase / {board['title']}", color=TEXT, fontsize=13, va="center")
    figure.text(1 - 0.1 / wide, 1 - 0.3 / tall, board["description"], color=FAINT, fontsize=9, va="center", ha="right")
    for panel in board["panels"]:
        at = panel["gridPos"]
        left, top = at["x"] * CELL_W, at["y"] * CELL_H + 0.6
        width, tallness = at["w"] * CELL_W, at["h"] * CELL_H
        x, y = left / wide, 1 - (top + tallness) / tall
        if panel["type"] == "row":
            figure.text((left + 0.1) / wide, y + tallness / 2 / tall, ("▸ " if panel["collapsed"] else "▾ ") + panel["title"], color=TEXT, fontsize=9, va="center")
            continue
        figure.add_artist(FancyBboxPatch((x + 0.03 / wide, y + 0.03 / tall), (width - 0.06) / wide, (tallness - 0.06) / tall,
                                         boxstyle="round,pad=0,rounding_size=0.001", facecolor=PANEL, edgecolor=LINE, linewidth=0.6, zorder=-1))
        figure.text(x + 0.12 / wide, y + (tallness - 0.2) / tall, panel["title"], color=TEXT, fontsize=8.5, va="center")
        chart = panel["type"] in ("timeseries", "barchart", "state-timeline")
        across = panel["type"] == "barchart" and panel["options"]["orientation"] == "horizontal"
        pad_left = (1.35 if across else 0.75) if chart else 0.12
        pad_low = (0.62 if panel["type"] != "state-timeline" else 0.35) if chart else 0.1
        # room for the labels of a second axis
        sided = chart and any(one["id"] == "custom.axisPlacement" for o in panel["fieldConfig"]["overrides"] for one in o["properties"])
        pad_right = 0.6 if sided else 0.2
        axes = figure.add_axes((x + pad_left / wide, y + pad_low / tall, (width - pad_left - pad_right) / wide, (tallness - pad_low - 0.42) / tall))
        KINDS[panel["type"]](axes, panel, answers.get(panel["id"], {}))
    figure.savefig(file, dpi=72, facecolor=BACK)
    plt.close(figure)


def draw(boards, drawn, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for uid, board in boards.items():
        draw_board(board, drawn[(uid, "its own range", True)], folder / f"{uid.removeprefix('polyphase-')}.png")
