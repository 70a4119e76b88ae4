// As much of a browser as the page of `rfs report` uses: node browser.js DATA SCRIPT. Prints what was drawn.
"use strict";
const fs = require("fs");

class Node {
  constructor(name) {
    this.name = name; this.attributes = {}; this.children = []; this.listeners = {};
    this.style = {}; this.dataset = {}; this.own = ""; this.value = ""; this.clientWidth = 1100;
  }
  get textContent() { return this.own + this.children.map((child) => child.textContent ?? child).join(" "); }
  set textContent(text) { this.own = text; this.children = []; }
  setAttribute(key, value) { this.attributes[key] = String(value); }
  append(...nodes) { this.children.push(...nodes); }
  replaceChildren(...nodes) { this.children = nodes; this.own = ""; }
  replaceWith(node) { Object.assign(this, node); }
  addEventListener(kind, go) { (this.listeners[kind] ||= []).push(go); }
  getBoundingClientRect() { return { left: 0, width: 1100, top: this.name === "chosen" ? -500 : 50 }; }
  scrollIntoView() { this.isShown = true; }
  click() { this.listeners.click.forEach((go) => go({})); }
  all() { return [this, ...this.children.flatMap((child) => child.all ? child.all() : [])]; }
}

const ids = {};
const byId = (id) => ids[id] ||= new Node(id);
byId("data").textContent = fs.readFileSync(process.argv[2], "utf8");
global.document = {
  getElementById: byId,
  createElement: (name) => new Node(name),
  createElementNS: (space, name) => new Node(name),
  querySelector: (path) => byId(path),
  body: new Node("body"),
};
global.window = new Node("window");
window.innerHeight = 800;
eval(fs.readFileSync(process.argv[3], "utf8"));

const boxes = () => byId("lanes").all().filter((node) => node.name === "rect");
const titled = (word) => boxes().find((box) => box.textContent.includes(word));
const isOf = (kind) => boxes().filter((box) => box.attributes.class.split(" ").includes(kind)).length;
const drawn = { boxes: boxes().length, critical: isOf("critical") };
drawn.text = boxes().map((box) => box.textContent).join("\n");
drawn.refused = byId("#refused table").children.length;
titled("compile a.c").click();
drawn.clicked = byId("step").textContent;
byId("around").all().find((node) => node.name === "button" && node.textContent === "all.h").click();
drawn.walked = byId("around").textContent;
// Closer, along, and a search.
byId("lanes").listeners.wheel[0]({ preventDefault() { throw new Error("the page cannot be scrolled"); }, clientX: 500, deltaY: -1 });
const before = titled("compile a.c").attributes.width;
byId("lanes").listeners.wheel[0]({ preventDefault() {}, ctrlKey: true, clientX: 500, deltaY: -1 });
byId("closer").click();
byId("farther").click();
byId("all").click();
if (Number(titled("compile a.c").attributes.width) !== Number(before)) throw new Error("not all is shown again");
byId("closer").click();
byId("lanes").listeners.pointerdown[0]({ clientX: 500 });
window.listeners.pointermove[0]({ clientX: 400 });
window.listeners.pointerup[0]({});
byId("search").value = "generate";
byId("search").listeners.input[0]({});
if (!byId("found").textContent.includes("generate")) throw new Error("nothing found");
byId("#slow table").all().find((node) => node.name === "button").click();
if (!byId("chosen").isShown || byId("graph").isShown) throw new Error("what was chosen is not shown");
console.log(JSON.stringify(drawn));
