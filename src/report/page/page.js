"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const make = (name, attributes, ...children) => {
    const node = document.createElement(name);
    for (const key in attributes || {}) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), attributes[key]);
      else node.setAttribute(key, attributes[key]);
    }
    node.append(...children);
    return node;
  };
  const draw = (name, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    return node;
  };
  const time = (s) => s < 0.995 ? s.toFixed(2) + " s" : s < 59.95 ? s.toFixed(1) + " s"
    : s < 3600 ? Math.floor(s / 60) + "m" + String(Math.round(s % 60)).padStart(2, "0") + "s"
    : Math.floor(s / 3600) + "h" + String(Math.floor(s % 3600 / 60)).padStart(2, "0") + "m";
  const steps = data.steps, counts = data.counts;
  const byNumber = new Map(steps.map((step) => [step.step, step]));
  const critical = new Set(data.critical);
  const writers = new Map(), readers = new Map();
  const add = (map, key, value) => map.has(key) ? map.get(key).push(value) : map.set(key, [value]);
  for (const step of steps) {
    step.outputs.forEach((file) => add(writers, file, step));
    step.inputs.forEach((file) => add(readers, file, step));
  }

  $("command").textContent = data.command;
  $("when").textContent = "Run " + data.run + ", " + new Date(data.began * 1000).toLocaleString()
    + (data.status === null ? ", killed" : ", exit status " + data.status);
  const tile = (value, text) => $("tiles").append(make("div", {}, make("b", {}, value), make("span", {}, text)));
  tile(data.wall_s === null ? "-" : time(data.wall_s), "from start to end");
  tile(String(counts.steps), "steps");
  tile(String(counts.hit), "hit");
  tile(String(counts.ran), "ran");
  tile(String(counts.refused), "refused");
  tile(time(counts.saved_s), "work saved");

  /* Choosing a step or a file. */
  let chosen = null;
  const link = (go, ...parts) => make("button", { class: parts.length > 1 ? "link c of" : "link c", type: "button", onclick: go }, ...parts);
  /* Far from what tells of the step a click would seem to do nothing. */
  const show = (id) => {
    const box = $(id).getBoundingClientRect();
    if (box.top < 0 || box.top > window.innerHeight - 120) $(id).scrollIntoView({ block: "start", behavior: "smooth" });
  };
  const stepLink = (step) => link(() => { choose(step); show("chosen"); }, make("i", {}, String(step.step)), step.command);
  const fileLink = (file) => link(() => { chooseFile(file); show("graph"); }, file);
  const list = (title, items) => {
    const ul = make("ul", {});
    items.slice(0, 500).forEach((item) => ul.append(make("li", {}, item)));
    if (items.length > 500) ul.append(make("li", {}, "and " + (items.length - 500) + " more"));
    if (!items.length) ul.append(make("li", { class: "hint" }, "none"));
    return make("div", {}, make("h3", {}, title), ul);
  };
  function choose(step) {
    chosen = step.step;
    const rows = [["command", step.command], ["became", step.verdict + (step.why ? ": " + step.why : "")],
      ["began", time(step.began_s)], ["took", time(step.wall_s) + ", by itself " + time(step.own_s)],
      ["processor", step.cpu === null ? "-" : String(step.cpu)]];
    const table = make("table", {});
    for (const [name, value] of rows) table.append(make("tr", {}, make("th", {}, name), make("td", { class: "c" }, value)));
    const parent = byNumber.get(step.parent);
    if (parent) table.append(make("tr", {}, make("th", {}, "started by"), make("td", {}, stepLink(parent))));
    $("step").replaceChildren(table);
    $("around").replaceChildren(
      list("read", step.inputs.map(fileLink)),
      list("step " + step.step, [step.command]),
      list("wrote", step.outputs.map(fileLink)));
    lanes();
  }
  function chooseFile(file) {
    $("around").replaceChildren(
      list("written by", (writers.get(file) || []).map(stepLink)),
      list("file", [file]),
      list("read by", (readers.get(file) || []).map(stepLink)));
  }
  $("search").addEventListener("input", () => {
    const text = $("search").value.toLowerCase();
    const files = new Set([...writers.keys(), ...readers.keys()]);
    const found = text.length < 2 ? [] : [
      ...steps.filter((step) => step.command.toLowerCase().includes(text)).slice(0, 30).map(stepLink),
      ...[...files].filter((file) => file.toLowerCase().includes(text)).slice(0, 30).map(fileLink)];
    const ul = make("ul", {});
    found.forEach((item) => ul.append(make("li", {}, item)));
    $("found").replaceChildren(ul);
  });

  /* Tables. */
  const fill = (id, heads, rows, none) => {
    const table = document.querySelector("#" + id + " table");
    if (!rows.length) { table.replaceWith(make("p", {}, none)); return; }
    const head = make("tr", {});
    heads.forEach(([text, kind]) => head.append(make("th", { class: kind || "" }, text)));
    table.append(head);
    for (const row of rows.slice(0, 500)) {
      const tr = make("tr", {});
      row.forEach((cell, at) => tr.append(make("td", { class: heads[at][1] || "" }, cell)));
      table.append(tr);
    }
    if (rows.length > 500) table.append(make("tr", {}, make("td", { class: "hint" }, "and " + (rows.length - 500) + " more")));
  };
  const bar = (parts) => {
    const whole = parts.reduce((sum, part) => sum + part[1], 0) || 1;
    const node = make("div", { class: "bar" });
    for (const [kind, n] of parts) {
      const piece = make("i", { class: kind });
      piece.style.width = 100 * n / whole + "%";
      node.append(piece);
    }
    return node;
  };
  const chain = data.critical.map((number) => byNumber.get(number)).filter(Boolean);
  let until = 0;
  fill("critical", [["step"], ["time", "n"], ["until here", "n"]],
    chain.map((step) => [stepLink(step), time(step.wall_s), time(until += step.wall_s)]),
    "Nothing needed what another step had written.");
  fill("tools", [["tool", "c"], ["hit", "n"], ["ran", "n"], ["refused", "n"], ["hit rate", "n"], [""], ["saved", "n"]],
    counts.tools.map((tool) => [tool.tool, String(tool.hit), String(tool.ran), String(tool.refused),
      Math.round(100 * tool.hit_rate) + "%", bar([["hit", tool.hit], ["ran", tool.ran], ["refused", tool.refused]]),
      time(tool.saved_s)]), "No steps.");
  fill("slow", [["step"], ["by itself", "n"], ["with others", "n"]],
    [...steps].sort((a, b) => b.own_s - a.own_s).slice(0, 25).map((step) => [stepLink(step), time(step.own_s), time(step.wall_s)]),
    "No steps.");
  fill("refused", [["step"], ["why", "c"], ["what can be done"]],
    data.refused.filter((one) => byNumber.has(one.step))
      .map((one) => [stepLink(byNumber.get(one.step)), one.why, one.advice]), "No step was refused.");

  /* The timeline: lanes for each processor, for what ran on one that is not known, for what was served, and
     for the steps around others. */
  const parents = new Set(steps.map((step) => step.parent));
  const groups = new Map();
  for (const step of [...steps].sort((a, b) => a.began_s - b.began_s || a.step - b.step)) {
    const key = parents.has(step.step) ? "around" : step.verdict === "hit" ? "served" : step.cpu === null ? "ran" : step.cpu;
    if (!groups.has(key)) groups.set(key, []);
    const ends = groups.get(key);
    let lane = ends.findIndex((end) => end.at <= step.began_s);
    if (lane < 0) lane = ends.push({ at: 0, steps: [] }) - 1;
    ends[lane].at = step.began_s + step.wall_s;
    ends[lane].steps.push(step);
  }
  const all = [];
  const cpus = [...groups.keys()].filter((key) => typeof key === "number").sort((a, b) => a - b);
  for (const key of [...cpus, "ran", "served", "around"]) {
    (groups.get(key) || []).forEach((lane, at) => all.push({
      name: at ? "" : typeof key === "number" ? "cpu " + key : key, around: key === "around", steps: lane.steps }));
  }
  /* What a box is called: the tool and what it made, since commands of one tool begin alike. */
  const base = (path) => path.slice(path.lastIndexOf("/") + 1);
  const label = (step) => step.outputs.length
    ? base(step.command.split(" ")[0]) + " " + step.outputs.map(base).join(" ") : step.command;
  /* No spread: a call has fewer arguments than a large build has steps. */
  const whole = steps.reduce((end, step) => Math.max(end, step.began_s + step.wall_s), 0.001);
  let from = 0, to = whole, moved = false;
  const left = 74, row = 20, most = 300;
  function lanes() {
    const width = Math.max(300, $("lanes").clientWidth || 1100);
    const shown = all.slice(0, most);
    const svg = draw("svg", { height: shown.length * row + 24, role: "img", "aria-label": "timeline" });
    const x = (s) => left + (s - from) / (to - from) * (width - left);
    const span = to - from;
    /* The least of 1, 2, 5, 10, ... whose marks do not meet. */
    const least = span * 80 / (width - left), power = Math.pow(10, Math.floor(Math.log10(least)));
    const tick = power * [1, 2, 5, 10].find((n) => power * n >= least);
    for (let s = Math.ceil(from / tick) * tick; s <= to; s += tick) {
      svg.append(draw("line", { class: "grid", x1: x(s), x2: x(s), y1: 0, y2: shown.length * row }));
      const mark = draw("text", { class: "name", x: x(s) + 2, y: shown.length * row + 14 });
      mark.textContent = tick < 0.01 ? (s * 1000).toFixed(1) + " ms" : s.toFixed(tick < 1 ? 2 : 0) + " s";
      svg.append(mark);
    }
    shown.forEach((lane, at) => {
      let last = -1;
      for (const step of lane.steps) {
        const start = Math.max(left, x(step.began_s)), end = Math.min(width, x(step.began_s + step.wall_s));
        if (end < left || start > width || (end - last < 0.4 && !critical.has(step.step))) continue;
        last = end;
        const box = draw("rect", { x: start, y: at * row + 2, width: Math.max(1, end - start), height: row - 4, rx: 2,
          class: "step " + step.verdict + (lane.around ? " around" : "") + (critical.has(step.step) ? " critical" : "")
            + (chosen === step.step ? " chosen" : "") });
        const title = draw("title", {});
        title.textContent = step.command + "\n" + step.verdict + ", " + time(step.wall_s) + (step.why ? "\n" + step.why : "");
        box.append(title);
        box.addEventListener("click", () => { if (!moved) choose(step); });
        svg.append(box);
        if (end - start > 60) {
          const text = draw("text", { class: lane.around ? "around" : "inside", x: start + 4, y: at * row + 14 });
          text.textContent = label(step).slice(0, Math.floor((end - start - 8) / 6.7));
          svg.append(text);
        }
      }
      const name = draw("text", { class: "name", x: 0, y: at * row + 14 });
      name.textContent = lane.name;
      svg.append(name);
    });
    const more = all.length - shown.length;
    $("lanes").replaceChildren(svg, ...(more > 0 ? [make("p", { class: "hint" }, "and " + more + " more lanes")] : []));
  }
  const clamp = () => {
    const span = Math.min(whole, Math.max(whole / 1e5, to - from));
    from = Math.max(0, Math.min(from, whole - span));
    to = from + span;
  };
  const zoom = (at, factor) => {
    from = at - (at - from) * factor; to = at + (to - at) * factor;
    clamp(); lanes();
  };
  /* The wheel alone scrolls the page; with Ctrl, and as browsers tell of two fingers, it goes closer. */
  $("lanes").addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const box = $("lanes").getBoundingClientRect();
    const at = from + Math.max(0, event.clientX - box.left - left) / (box.width - left) * (to - from);
    zoom(at, event.deltaY < 0 ? 0.8 : 1.25);
  }, { passive: false });
  $("closer").addEventListener("click", () => zoom((from + to) / 2, 0.5));
  $("farther").addEventListener("click", () => zoom((from + to) / 2, 2));
  $("all").addEventListener("click", () => zoom(0, 1e6));
  let drag = null;
  $("lanes").addEventListener("pointerdown", (event) => { moved = false; drag = { x: event.clientX, from, to }; });
  window.addEventListener("pointerup", () => { drag = null; });
  window.addEventListener("pointermove", (event) => {
    if (!drag || Math.abs(event.clientX - drag.x) < 4) return;
    moved = true;
    const by = (drag.x - event.clientX) / ($("lanes").clientWidth - left) * (drag.to - drag.from);
    from = drag.from + by; to = drag.to + by;
    clamp(); lanes();
  });
  window.addEventListener("resize", lanes);
  const first = byNumber.get(data.critical[data.critical.length - 1]) || steps[0];
  if (first) choose(first); else lanes();
  document.body.dataset.drawn = String(steps.length);
})();
