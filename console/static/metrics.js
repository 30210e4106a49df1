// Charts from the tables that stand beside them: the table is the truth, the picture is a look at it.
"use strict";
(() => {
  const resolve = (name) => { const probe = document.createElement("span"); probe.style.color = `var(${name})`; document.body.append(probe); const color = getComputedStyle(probe).color; probe.remove(); return color; };
  const tones = ["--good", "--bad", "--wait", "--busy"];
  function seconds(text) {
    const iso = text.replace(" ", "T");
    return Date.parse(/(Z|[+-]\d\d:?\d\d)$/.test(iso) ? iso : `${iso}Z`) / 1000;
  }
  function read(table) {
    const names = Array.from(table.tHead.rows[0].cells, (cell) => cell.textContent);
    return { names, rows: Array.from(table.tBodies[0].rows, (row) => Array.from(row.cells, (cell) => cell.textContent)) };
  }
  function draw(place) {
    const { names, rows } = read(document.getElementById(place.dataset.table));
    const up = place.dataset.up.split(" "), at = names.indexOf(place.dataset.along);
    const lines = place.dataset.chart === "lines";
    const shown = lines ? rows : rows.slice(0, 24);
    const amount = (row, name) => { const text = row[names.indexOf(name)]; return text === "" ? null : Number(text); };
    if (!shown.some((row) => up.some((name) => amount(row, name) !== null))) { place.textContent = "Nothing to draw yet; the table has what there is."; return; }
    // bars of a row stand beside each other: each series has places of its own along the axis
    const wide = 0.8 / up.length;
    const spots = lines ? shown.map((row) => [row, null, seconds(row[at])]) : shown.flatMap((row, index) => up.map((name, k) => [row, name, index + (k - (up.length - 1) / 2) * wide]));
    const data = [spots.map((spot) => spot[2]), ...up.map((name) => spots.map(([row, only]) => (only === null || only === name ? amount(row, name) : null)))];
    const along = shown.map((row, index) => index);
    const hour = 3600, ends = lines ? [data[0][0], data[0][data[0].length - 1]] : [];
    const soft = resolve("--soft"), line = resolve("--line");
    const bar = () => uPlot.paths.bars({ size: [wide, 40], align: 0 });
    const options = {
      width: place.clientWidth || 600, height: 190, cursor: { drag: { x: false, y: false } },
      scales: lines ? { x: { range: [ends[0] - (ends[0] === ends[1] ? hour : 0), ends[1] + (ends[0] === ends[1] ? hour : 0)] } } : { x: { time: false, range: [-0.6, Math.max(0.6, shown.length - 0.4)] } },
      axes: [
        lines ? { stroke: soft, grid: { stroke: line, width: 1 } } : { stroke: soft, grid: { show: false }, splits: () => along, values: () => shown.map((row) => row[at].replace(/^(validation|dispatch|execution)_/, "").slice(0, 18)), rotate: shown.length > 5 ? -30 : 0, size: shown.length > 5 ? 80 : 40 },
        { stroke: soft, grid: { stroke: line, width: 1 }, size: 56 },
      ],
      series: [{ label: place.dataset.along, value: lines ? undefined : (chart, value) => (value === null ? "–" : shown[Math.round(value)][at]) }, ...up.map((name, index) => ({
        label: name, stroke: resolve(tones[index % 4]), width: 1.5, fill: lines ? undefined : resolve(`${tones[index % 4]}-soft`), paths: lines ? undefined : bar(), points: { show: lines && shown.length < 40, size: 7 },
      }))],
    };
    place.replaceChildren();
    new uPlot(options, data, place);
  }
  // a picture is drawn again when its table has changed: patches leave it alone
  const drawn = new WeakMap();
  const look = () => document.querySelectorAll("[data-chart]").forEach((place) => {
    const shown = document.getElementById(place.dataset.table).textContent;
    if (drawn.get(place) !== shown) { drawn.set(place, shown); draw(place); }
  });
  document.addEventListener("htmx:sse:after:message", look);
  const all = () => document.querySelectorAll("[data-chart]").forEach(draw);
  look();
  let later = 0;
  addEventListener("resize", () => { clearTimeout(later); later = setTimeout(all, 150); });
  new MutationObserver(all).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
})();
