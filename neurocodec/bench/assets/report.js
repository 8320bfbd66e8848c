"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = id => document.getElementById(id);
const AVERAGE = "";
const SOURCE = "source";
const hidden = new Set();
const colours = new Map(data.codecs.filter(c => c !== data.ours)
  .map((c, i) => [c, COLOURS[i % COLOURS.length]]));
colours.set(data.ours, OUR_COLOUR);

at("title").textContent = data.title;
at("about").textContent = data.about;

const metricOf = key => data.metrics.find(m => m.key === key);
const show = (key, value) => value === undefined || value === null ? "–"
  : value.toFixed(metricOf(key)?.digits ?? 2);

function facts(point) {
  const lines = [`${point.codec}, ${point.dial} ${point.value}`];
  lines.push(`${point.bpp.toFixed(4)} bpp, ${point.kbps.toFixed(1)} kbit/s, ${point.bytes} bytes`);
  for (const m of data.metrics)
    if (m.key in point.metrics)
      lines.push(`${m.title} ${show(m.key, point.metrics[m.key])}${m.unit ? " " + m.unit : ""}`);
  lines.push(`encode ${point.encode_fps} fps, decode ${point.decode_fps} fps`);
  return lines.join("\n");
}

function tipOf(point) {
  if (!point.command) return null;
  return `${facts(point)}\n\n${point.command}`;
}

function curvesOf(clip) {
  return clip === AVERAGE ? data.average : data.points[clip];
}

function drawCurves() {
  const clip = at("clip").value, metric = metricOf(at("metric").value), rate = at("rate").value;
  const curves = curvesOf(clip);
  const series = data.codecs.filter(c => curves[c]?.length).map(codec => ({
    name: codec, colour: colours.get(codec), ours: codec === data.ours,
    dash: /our GOP|PSNR/.test(codec) ? "6 4" : "",
    points: curves[codec].map(p => ({
      x: p[rate], y: p.metrics[metric.key] ?? null, point: p,
      tip: tipOf(p) || `${codec}, mean of the clips\n${p.bpp.toFixed(4)} bpp\n` +
        `${metric.title} ${show(metric.key, p.metrics[metric.key])} ${metric.unit}`,
    })),
  }));
  drawChart(at("chart"), series.filter(s => !hidden.has(s.name)), {
    x: at("rate").selectedOptions[0].textContent, log: true,
    y: metric.title + (metric.unit ? `, ${metric.unit}` : "") +
      (metric.smaller ? " (smaller is better)" : ""),
    format: v => show(metric.key, v),
    pick: p => pick(p.point),
  });
  drawLegend(at("chart").querySelector(".legend"), series, hidden, drawCurves);
}

function drawTable() {
  const clip = at("clip").value, table = at("bd");
  const row = (cells, kind) => {
    const line = document.createElement("tr");
    line.append(...cells.map(text => Object.assign(document.createElement(kind), {
      textContent: text })));
    return line;
  };
  const head = ["anchor", ...data.metrics.map(m => m.title), "encode fps", "decode fps"];
  const rows = data.codecs.map(codec => {
    const fps = data.speeds[clip]?.[codec] || ["–", "–"];
    const cells = data.bd[clip]?.[codec];
    const ours = codec === data.ours;
    const line = row([codec, ...data.metrics.map(m => ours ? "" : cells?.[m.key] ?? "–"), ...fps],
      "td");
    if (ours) line.className = "ours";
    return line;
  });
  table.replaceChildren(row(head, "th"), ...rows);
}

const slider = new Slider(document.querySelector(".stage"), at("split"));

function pictured() {
  const clip = at("clip").value || data.clips[0].name;
  return data.clips.find(c => c.name === clip);
}

function levels() {
  const clip = pictured();
  const points = (data.points[clip.name][data.ours] || []).filter(p => p.picture);
  const codecs = data.codecs.filter(c => nearest(clip.name, c, points[0]));
  at("look").hidden = !points.length;
  at("pictures").textContent = points.length
    ? `${clip.name}, frame ${Math.floor(clip.frames / 2)} of ${clip.frames}. Each codec's point ` +
      "nearest in rate is shown." + (data.pictures_note ? " " + data.pictures_note : "")
    : "There are no pictures of this clip in the page. " + data.pictures_note;
  if (!points.length) return;
  const level = at("level").value, left = at("left").value, right = at("right").value;
  const options = points.map(p => [String(p.target), `${p.bpp.toFixed(4)} bpp, our ${p.dial} ${p.value}`]);
  const middle = options[Math.floor(options.length / 2)][0];
  fill(at("level"), options, options.some(o => o[0] === level) ? level : middle);
  const names = [SOURCE, ...codecs].map(c => [c, c]);
  fill(at("left"), names, left || codecs.find(c => c !== data.ours) || SOURCE);
  fill(at("right"), names, right || data.ours);
  drawPictures();
}

function nearest(clip, codec, like) {
  const points = (data.points[clip][codec] || []).filter(p => p.picture);
  if (!points.length || !like) return null;
  const apart = p => Math.abs(Math.log(p.bytes / like.bytes));
  return points.reduce((best, p) => apart(p) < apart(best) ? p : best);
}

function drawPictures() {
  const clip = pictured();
  const like = data.points[clip.name][data.ours].find(p => String(p.target) === at("level").value);
  const sides = ["left", "right"].map(side => {
    const codec = at(side).value;
    if (codec === SOURCE) {
      at(`${side}-facts`).textContent = "source, as every codec was given it";
      return { name: "source", source: data.pictures[clip.picture] };
    }
    const point = nearest(clip.name, codec, like);
    const percent = 100 * (point.bytes / like.bytes - 1);
    const off = Math.abs(percent) < 0.5 ? "" : ` (${percent > 0 ? "+" : ""}${percent.toFixed(0)} % rate)`;
    at(`${side}-facts`).textContent = facts(point);
    return { name: codec + off, source: data.pictures[point.picture] };
  });
  slider.show(sides[0], sides[1], clip.width, clip.height);
}

function pick(point) {
  const level = [...at("level").options].find(o => o.value === String(point.target));
  if (!point.picture || !level || !at("clip").value) return;
  level.selected = true;
  at("right").value = point.codec;
  drawPictures();
}

const single = data.clips.map(c => [c.name, `${c.name} (${c.width}x${c.height}, ${c.frames} frames)`]);
fill(at("clip"), single.length > 1 ? [[AVERAGE, "average of all"], ...single] : single);
fill(at("metric"), data.metrics.map(m => [m.key, m.title]), data.metrics[0].key);
for (const id of ["metric", "rate"]) at(id).addEventListener("change", drawCurves);
at("clip").addEventListener("change", () => { drawCurves(); drawTable(); levels(); });
for (const id of ["level", "left", "right"]) at(id).addEventListener("change", drawPictures);
drawCurves();
drawTable();
levels();
