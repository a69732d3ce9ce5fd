"use strict";
// Draws the charts of the page from its own data, and answers what is asked of them. It loads
// nothing and evaluates nothing; whatever a user typed reaches the page as text alone.
(() => {
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const state = {
    unit: "nats", axes: "drawn", hidden: new Set(),
    params: page.views[0].params, flops: page.views[0].flops,
    published: document.querySelector("input[name=published]")?.checked ?? false,
  };
  const say = (text) => { document.getElementById("said").textContent = text; };

  // ---- how numbers are written; as analysis/notation.py writes them

  const digits = (value, n) => String(Number(value.toPrecision(n))).replace("-", "−");
  const write = {
    count(value) {
      for (const [size, unit] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "K"]]) {
        if (Number(value.toPrecision(3)) >= size) return digits(value / size, 3) + unit;
      }
      return digits(value, 3);
    },
    flops(value) { return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e"); },
    loss(value) { return digits(value, 4); },
    ratio(value) { return value < 1000 ? `${digits(value, 3)}×` : `${write.count(value)}×`; },
    number(value) { return value.toFixed(3).replace("-", "−"); },
    percent(value) { return digits(value, 2); },
    text(value) { return String(value); },
    series(value) { return page.series[value].label; },
    run(value) { return page.runs.id[value]; },
  };

  // ---- data: columns become rows, losses change their unit, hidden series leave

  const view = () =>
    page.views.find((each) => each.params === state.params && each.flops === state.flops);

  const cached = new Map();
  function rowsOf(frame) {
    const found = view();
    if (!cached.has(found)) cached.set(found, {});
    const frames = cached.get(found);
    // A view has the columns in which it differs from the first.
    if (!(frame in frames)) {
      frames[frame] = rowsFrom({ ...page.views[0].frames[frame], ...found.frames[frame] });
    }
    return frames[frame];
  }

  function rowsFrom(columns) {
    const names = Object.keys(columns);
    return Array.from({ length: columns[names[0]].length }, (_, index) =>
      Object.fromEntries(names.map((name) => [name, columns[name][index]])));
  }

  const units = {
    nats: { title: "nats per token", of: () => (value) => value },
    bits: { title: "bits per byte", of: (series) => (value) => value * page.series[series].bits },
    perplexity: { title: "perplexity per token", of: () => Math.exp },
  };

  function converted(rows, fields) {
    if (state.unit === "nats" || !fields.length) return rows;
    return rows.map((row) => {
      if ("quantity" in row && row.quantity !== "loss") return row;
      const change = units[state.unit].of(row.series ?? 0);
      const own = fields.filter((field) => typeof row[field] === "number");
      return { ...row, ...Object.fromEntries(own.map((field) => [field, change(row[field])])) };
    });
  }

  function shown(name, rows, series) {
    if (name === "published" && !state.published) return [];
    return rows.filter((row) => !("series" in row) ||
      (!state.hidden.has(row.series) && (series === null || row.series === series)));
  }

  // ---- one chart

  const LOGARITHMIC = ["flops", "count", "loss", "ratio"];

  function prepared(spec, width, frames) {
    const ready = structuredClone(spec);
    const meta = ready.usermeta;
    ready.datasets = {};
    for (const layer of ready.layer) {
      const name = layer.data?.name;
      if (name && !(name in ready.datasets)) {
        ready.datasets[name] = shown(name, converted(frames(name), meta.losses), meta.series);
      }
      for (const channel of ["x", "y"]) adapt(layer.encoding?.[channel], meta[channel]);
    }
    ready.width = width;
    ready.autosize = { type: "fit-x", contains: "padding" };
    ready.config = page.config;
    return ready;
  }

  function adapt(encoding, kind) {
    if (!encoding?.axis || !encoding.scale) return;
    if (state.axes !== "drawn" && LOGARITHMIC.includes(kind)) encoding.scale.type = state.axes;
    if (encoding.scale.type === "linear") encoding.scale.zero = false;
    let title = encoding.axis.title;
    for (const [key, text] of Object.entries(view().titles)) title = title.replace(key, text);
    encoding.axis.title = kind === "loss" ? `${title} (${units[state.unit].title})` : title;
    encoding.title = encoding.axis.title;
  }

  const charts = [];

  class Chart {
    constructor(slot, spec, frames = rowsOf) {
      this.slot = slot;
      this.spec = spec;
      this.frames = frames;
      this.drawing = document.createElement("div");
      this.ring = document.createElement("span");
      this.ring.className = "ring";
      this.ring.hidden = true;
      slot.append(this.drawing, this.ring);
      this.at = -1;
      slot.addEventListener("pointermove", (event) => this.point(event));
      slot.addEventListener("pointerleave", () => this.leave());
      slot.addEventListener("click", (event) => { this.point(event); this.open(); });
      slot.addEventListener("keydown", (event) => this.press(event));
      slot.addEventListener("blur", () => this.leave());
    }

    draw() {
      const series = this.spec.usermeta.series;
      const panel = this.slot.closest(".panel");
      if (panel) panel.hidden = series !== null && state.hidden.has(series);
      this.width = this.slot.clientWidth;
      if (!this.width) return;
      this.view?.finalize();
      this.view = this.marks = null;
      this.leave();
      const why = view().empty[this.slot.id.replace("chart-", "")];
      this.drawing.replaceChildren(...why ? [textOf("p", why)] : []);
      if (why) return;
      const compiled = vegaLite.compile(prepared(this.spec, this.width, this.frames)).spec;
      this.view = new vega.View(vega.parse(compiled, null, { ast: true }), {
        renderer: "svg", container: this.drawing, expr: expressionInterpreter,
        logger: vega.logger(vega.Error),
      });
      this.view.run();
      const svg = this.drawing.querySelector("svg");
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", this.spec.description);
      svg.setAttribute("focusable", "false");
    }

    // The marks that can be pointed at, from left to right, with their places in the chart.
    items() {
      if (this.marks || !this.view) return this.marks ?? [];
      const [left, top] = this.view.origin();
      const pad = this.view.padding();
      this.marks = [];
      for (const [name, lines] of Object.entries(this.spec.usermeta.tips)) {
        for (const path of this.drawing.querySelectorAll(`g.${CSS.escape(name)}_marks > path`)) {
          const item = path.__data__;
          const row = item.datum;
          this.marks.push({ x: item.x + left + pad.left, y: item.y + top + pad.top, row, lines });
        }
      }
      this.marks.sort((one, other) => one.x - other.x || other.y - one.y);
      return this.marks;
    }

    point(event) {
      const box = this.drawing.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      let [best, nearest] = [-1, 24];
      this.items().forEach((mark, index) => {
        const away = Math.hypot(mark.x - x, mark.y - y);
        if (away < nearest) [best, nearest] = [index, away];
      });
      if (best < 0) this.leave(); else if (best !== this.at) this.show(best);
    }

    show(index) {
      this.at = index;
      const mark = this.items()[index];
      this.ring.style.left = `${mark.x}px`;
      this.ring.style.top = `${mark.y}px`;
      this.ring.hidden = false;
      const told = mark.lines.map(([title, field, kind, low, high]) =>
        [title, written(mark.row, field, kind, low, high)]).filter(([, text]) => text !== null);
      const opens = mark.row.run !== undefined && page.runs.id[mark.row.run] !== undefined;
      tip.show(told, opens, this.drawing.getBoundingClientRect(), mark);
      return told.map(([title, text]) => `${title} ${text}`.trim()).join(", ");
    }

    leave() {
      this.at = -1;
      this.ring.hidden = true;
      tip.hide();
    }

    open() {
      const run = this.items()[this.at]?.row.run;
      if (run !== undefined) openRun(run);
    }

    press(event) {
      const last = this.items().length - 1;
      const to = {
        ArrowRight: Math.min(this.at + 1, last), ArrowDown: Math.min(this.at + 1, last),
        ArrowLeft: Math.max(this.at - 1, 0), ArrowUp: Math.max(this.at - 1, 0),
        Home: 0, End: last,
      }[event.key];
      if (to !== undefined && last >= 0) {
        say(`${this.show(to)}; ${to + 1} of ${last + 1}`);
      } else if (event.key === "Enter" && this.at >= 0) {
        this.open();
      } else if (event.key === "Escape") {
        this.leave();
        return;
      } else {
        return;
      }
      event.preventDefault();
    }
  }

  function written(row, field, kind, low, high) {
    const value = row[field];
    if (value === null || value === undefined) return null;
    const ends = [row[low], row[high]];
    const known = ends.every((end) => typeof end === "number") && ends[0] !== ends[1];
    return write[kind](value) + (known ? ` [${ends.map(write[kind]).join(", ")}]` : "");
  }

  const tip = {
    box: document.getElementById("tip"),
    show(lines, opens, box, mark) {
      const cells = lines.flatMap(([title, text]) => [textOf("dt", title), textOf("dd", text)]);
      this.box.replaceChildren(...cells);
      if (opens) this.box.append(textOf("dd", "click or Enter: its loss curve"));
      this.box.hidden = false;
      const width = document.documentElement.clientWidth;
      const left = Math.min(box.left + mark.x + 14, width - this.box.offsetWidth - 8);
      const below = box.top + mark.y + 14;
      const fits = below + this.box.offsetHeight < window.innerHeight;
      const top = fits ? below : box.top + mark.y - this.box.offsetHeight - 14;
      this.box.style.left = `${Math.max(4, left)}px`;
      this.box.style.top = `${Math.max(4, top)}px`;
    },
    hide() { this.box.hidden = true; },
  };

  function textOf(tag, text) {
    const element = document.createElement(tag);
    element.textContent = text;
    return element;
  }

  // ---- the loss curve of a run

  const dialog = document.getElementById("curve");
  let curveChart = null;

  function openRun(run) {
    const observed = rowsOf("points").filter((row) => row.run === run)
      .sort((one, other) => one.tokens - other.tokens);
    const logged = page.runs.curves[run];
    const series = observed[0].series;
    const training = (logged ? rowsFrom(logged) : []).map((row) => ({ ...row, series }));
    const frames = { observed, training };
    document.getElementById("curve-title").textContent =
      `${page.series[series].label}, run ${page.runs.id[run]}`;
    const last = observed[observed.length - 1];
    const facts = [`${write.count(last.params)} parameters`, `${write.count(last.tokens)} tokens`,
      `${write.flops(last.flops)} FLOPs`];
    for (const [name, values] of Object.entries(page.runs.facts)) {
      if (values[run] !== null) facts.push(`${name} ${values[run]}`);
    }
    document.getElementById("curve-facts").textContent = facts.join(" · ");
    document.getElementById("curve-note").textContent = logged
      ? "Line: training loss, not a bound. Dots: the bound that fits read."
      : `This source has no logged losses of the run, only ${observed.length} measured ` +
        `${observed.length === 1 ? "point" : "points"}.`;
    tip.hide();
    dialog.showModal();
    const slot = document.getElementById("curve-chart");
    slot.replaceChildren();
    curveChart?.view?.finalize();
    curveChart = new Chart(slot, page.curve, (name) => frames[name]);
    curveChart.draw();
    const unit = units[state.unit];
    const body = dialog.querySelector("tbody");
    body.replaceChildren(...observed.map((row) => {
      const line = document.createElement("tr");
      const loss = unit.of(series)(row.loss);
      line.append(...[write.count(row.tokens), write.flops(row.flops), write.loss(loss)]
        .map((text) => textOf("td", text)));
      return line;
    }));
    dialog.querySelector("th:last-child").textContent = `loss, ${unit.title}`;
  }

  document.getElementById("curve-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  // ---- controls

  function drawAll() {
    let next = 0;
    for (const note of document.querySelectorAll("small[data-series]")) {
      note.textContent = view().bracketed[note.dataset.series];
    }
    remark();
    const step = () => {
      const until = performance.now() + 40;
      while (next < charts.length && performance.now() < until) charts[next++].draw();
      if (next < charts.length) setTimeout(step, 0);
      else document.documentElement.dataset.ready = String(++drawings);
    };
    delete document.documentElement.dataset.ready;
    step();
  }
  let drawings = 0;

  // What the charts lack by the count that is chosen, and what the tables count meanwhile.
  function remark() {
    const { lacking, empty } = view();
    const [own] = page.views;
    for (const note of document.querySelectorAll("[data-lacking]")) {
      const figure = note.dataset.lacking;
      const isSaid = Object.keys(empty).some((chart) => chart.startsWith(`${figure}-`));
      note.hidden = isSaid || !lacking[figure];
      note.textContent = note.hidden ? "" : `Not drawn: ${lacking[figure]}`;
    }
    for (const note of document.querySelectorAll("[data-counts]")) {
      const why = lacking[note.dataset.counts];
      note.hidden = view() === own || !why;
      note.textContent = note.hidden ? "" :
        `Counted as fitted: parameters ${own.params}, FLOPs ${own.flops}. By parameters ` +
        `${state.params}, FLOPs ${state.flops}: ${why}`;
    }
  }

  for (const name of ["unit", "axes", "params", "flops"]) {
    const select = document.querySelector(`select[name=${name}]`);
    select?.addEventListener("change", () => {
      state[name] = select.value;
      say(`${select.labels[0].firstChild.textContent.trim()}: ${select.selectedOptions[0].text}`);
      drawAll();
    });
  }
  document.querySelector("input[name=published]")?.addEventListener("change", (event) => {
    state.published = event.target.checked;
    drawAll();
  });
  for (const button of document.querySelectorAll("button[data-series]")) {
    button.addEventListener("click", () => {
      const series = Number(button.dataset.series);
      const isShown = state.hidden.delete(series);
      if (!isShown) state.hidden.add(series);
      button.setAttribute("aria-pressed", String(isShown));
      drawAll();
    });
  }

  // ---- files

  function save(name, type, parts) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(parts, { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  async function unpacked(base64) {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  for (const button of document.querySelectorAll("button[data-file]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const packed = document.getElementById(`file-${button.dataset.file}`);
      const { file, type, gzip } = JSON.parse(packed.textContent);
      save(file, type, [await unpacked(gzip)]);
    });
  }
  for (const button of document.querySelectorAll("button.csv")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const cells = (row) => Array.from(row.cells, (cell) => {
        const text = cell.textContent.trim();
        return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
      }).join(",");
      const rows = button.closest("div").querySelector("table").rows;
      save(`${button.dataset.name}.csv`, "text/csv", [Array.from(rows, cells).join("\n") + "\n"]);
    });
  }

  // ---- start

  for (const figure of page.figures) {
    figure.panels.forEach((spec, index) => {
      charts.push(new Chart(document.getElementById(`chart-${figure.name}-${index}`), spec));
    });
  }
  document.getElementById("controls").hidden = false;
  drawAll();
  let resized = 0;
  window.addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(() => {
      if (charts.some((chart) => chart.slot.clientWidth && chart.slot.clientWidth !== chart.width)) {
        drawAll();
      }
    }, 150);
  });
})();
