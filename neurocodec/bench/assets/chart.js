"use strict";
// A line chart in SVG with a tip at the nearest point.

const SVG = "http://www.w3.org/2000/svg";
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b",
  "#7f7f7f", "#bcbd22", "#9467bd", "#17becf", "#2ca02c"];
const OUR_COLOUR = "#d62728";

function make(name, attributes, parent) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (parent) parent.appendChild(node);
  return node;
}

function linearTicks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(f => f * power).find(s => s >= rough);
  const ticks = [];
  for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-9; t += step) ticks.push(t);
  return ticks;
}

function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    for (const f of [1, 2, 5]) {
      const t = f * 10 ** power;
      if (t >= low && t <= high) ticks.push(t);
    }
  return ticks.length > 1 ? ticks : [low, high];
}

const short = value => String(Number(value.toPrecision(4)));

// series: [{name, colour, ours, dash, points: [{x, y, tip}]}]; y of null is a gap.
// axes: {x, y: titles, log: of x, format: of y, pick: called with the nearest point on a click}
function drawChart(panel, series, axes) {
  const width = 1000, height = 430, left = 64, right = 16, top = 14, bottom = 46;
  panel.querySelector("svg")?.remove();
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img" });
  panel.prepend(svg);
  const tip = panel.querySelector(".tip");
  tip.hidden = true;
  const all = series.flatMap(s => s.points).filter(p => p.y !== null && p.y !== undefined);
  if (!all.length) {
    make("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, svg).textContent =
      "nothing to show";
    return;
  }
  const span = (values, share) => {
    const low = Math.min(...values), high = Math.max(...values);
    const pad = (high - low) * share || Math.abs(high) * 0.05 || 1;
    return [low - pad, high + pad];
  };
  const scale = axes.log ? Math.log10 : v => v;
  const [x0, x1] = span(all.map(p => scale(p.x)), 0.02);
  const [y0, y1] = span(all.map(p => p.y), 0.05);
  const px = v => left + (scale(v) - x0) / (x1 - x0) * (width - left - right);
  const py = v => height - bottom - (v - y0) / (y1 - y0) * (height - top - bottom);
  const format = axes.format || short;
  for (const t of axes.log ? logTicks(10 ** x0, 10 ** x1) : linearTicks(x0, x1, 10)) {
    make("line", { x1: px(t), x2: px(t), y1: top, y2: height - bottom, class: "grid" }, svg);
    make("text", { x: px(t), y: height - bottom + 17, "text-anchor": "middle" }, svg)
      .textContent = short(t);
  }
  for (const t of linearTicks(y0, y1, 7)) {
    make("line", { x1: left, x2: width - right, y1: py(t), y2: py(t), class: "grid" }, svg);
    make("text", { x: left - 8, y: py(t) + 4, "text-anchor": "end" }, svg).textContent = short(t);
  }
  make("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, svg)
    .textContent = axes.x;
  make("text", { transform: `translate(16 ${(top + height - bottom) / 2}) rotate(-90)`,
    "text-anchor": "middle" }, svg).textContent = axes.y;
  const spots = [];
  for (const s of series) {
    let path = "", pen = "M";
    for (const p of s.points) {
      if (p.y === null || p.y === undefined) { pen = "M"; continue; }
      path += `${pen}${px(p.x).toFixed(1)} ${py(p.y).toFixed(1)}`;
      pen = "L";
      spots.push({ x: px(p.x), y: py(p.y), point: p, series: s });
    }
    make("path", { d: path || "M0 0", class: s.ours ? "series ours" : "series", stroke: s.colour,
      "stroke-dasharray": s.dash || "none" }, svg);
  }
  if (spots.length <= 400)
    for (const s of spots)
      make("circle", { cx: s.x, cy: s.y, r: s.series.ours ? 5 : 4, fill: s.series.colour }, svg);
  const ring = make("circle", { r: 7, fill: "none", class: "picked", visibility: "hidden" }, svg);
  const nearest = event => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) * width / box.width;
    const y = (event.clientY - box.top) * height / box.height;
    let best = null, least = 60 ** 2;
    for (const s of spots) {
      const d = (s.x - x) ** 2 + (s.y - y) ** 2;
      if (d < least) { best = s; least = d; }
    }
    return best;
  };
  svg.addEventListener("pointermove", event => {
    const best = nearest(event);
    ring.setAttribute("visibility", best ? "visible" : "hidden");
    tip.hidden = !best;
    if (!best) return;
    ring.setAttribute("cx", best.x);
    ring.setAttribute("cy", best.y);
    tip.textContent = best.point.tip || `${best.series.name}\n${format(best.point.y)}`;
    const at = best.x / width * svg.clientWidth, beyond = at > svg.clientWidth * 0.6;
    tip.style.left = beyond ? "" : `${at + 24}px`;
    tip.style.right = beyond ? `${svg.clientWidth - at + 24}px` : "";
    tip.style.top = `${Math.max(8, best.y / height * svg.clientHeight - 30)}px`;
  });
  svg.addEventListener("pointerleave", () => {
    tip.hidden = true;
    ring.setAttribute("visibility", "hidden");
  });
  if (axes.pick) svg.addEventListener("click", event => {
    const best = nearest(event);
    if (best) axes.pick(best.point);
  });
}

// Buttons that show and hide series. hidden: a Set of names, kept by the caller.
function drawLegend(place, series, hidden, redraw) {
  place.replaceChildren(...series.map(s => {
    const button = document.createElement("button"), mark = document.createElement("i");
    mark.style.borderTopColor = s.colour;
    if (s.dash) mark.style.borderTopStyle = "dashed";
    button.append(mark, s.name);
    button.setAttribute("aria-pressed", String(!hidden.has(s.name)));
    button.addEventListener("click", () => {
      if (!hidden.delete(s.name)) hidden.add(s.name);
      redraw();
    });
    return button;
  }));
}

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => {
    const option = document.createElement("option");
    option.value = value;
    option.textContent = text;
    option.selected = value === chosen;
    return option;
  }));
}
