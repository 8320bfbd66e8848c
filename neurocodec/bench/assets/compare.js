"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = id => document.getElementById(id);
const hidden = new Set();

at("title").textContent = data.title;
at("about").textContent = data.about;
const metricOf = key => data.metrics.find(m => m.key === key);
const show = (key, value) => value === undefined || value === null ? "–"
  : value.toFixed(metricOf(key).digits);

function drawMeans() {
  const row = (cells, kind) => {
    const line = document.createElement("tr");
    line.append(...cells.map(text => Object.assign(document.createElement(kind), {
      textContent: text })));
    return line;
  };
  const head = ["", ...data.metrics.map(m => m.title + (m.unit ? `, ${m.unit}` : ""))];
  at("means").replaceChildren(row(head, "th"), ...data.videos.map(v =>
    row([v.name, ...data.metrics.map(m => show(m.key, v.means[m.key]))], "td")));
}

function drawFrames() {
  const metric = metricOf(at("metric").value);
  const series = data.videos.map((v, i) => ({
    name: v.name, colour: [OUR_COLOUR, COLOURS[0]][i], ours: false,
    points: (v.columns[metric.key] || []).map((y, x) => ({
      x, y, tip: y === null ? null : `${v.name}, frame ${x}\n${metric.title} ` +
        `${show(metric.key, y)} ${metric.unit}`,
    })),
  }));
  drawChart(at("chart"), series.filter(s => !hidden.has(s.name)), {
    x: "frame", log: false,
    y: metric.title + (metric.unit ? `, ${metric.unit}` : "") +
      (metric.smaller ? " (smaller is better)" : ""),
    pick: p => {
      const apart = o => Math.abs(Number(o.value) - p.x);
      const options = [...at("frame").options];
      if (!options.length) return;
      options.reduce((best, o) => apart(o) < apart(best) ? o : best).selected = true;
      drawPictures();
    },
  });
  drawLegend(at("chart").querySelector(".legend"), series, hidden, drawFrames);
}

const slider = new Slider(document.querySelector(".stage"), at("split"));

function drawPictures() {
  const frame = data.frames[at("frame").value];
  const [left, right] = ["left", "right"].map(side => {
    const i = Number(at(side).value);
    return { name: data.names[i], source: frame[i] };
  });
  slider.show(left, right, data.width, data.height);
}

fill(at("metric"), data.metrics.map(m => [m.key, m.title]), data.metrics[0]?.key);
fill(at("frame"), Object.keys(data.frames).map(i => [i, i]), Object.keys(data.frames)[0]);
const names = data.names.map((name, i) => [String(i), name]);
fill(at("left"), names, String(names.length - 2));
fill(at("right"), names, String(names.length - 1));
at("metric").addEventListener("change", drawFrames);
for (const id of ["frame", "left", "right"]) at(id).addEventListener("change", drawPictures);
at("look").hidden = !Object.keys(data.frames).length;
drawMeans();
drawFrames();
if (Object.keys(data.frames).length) drawPictures();
