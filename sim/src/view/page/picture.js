// The pictures: the whiteboard adds up what each step has drawn, the timeline comes as it is.

/** @typedef {import("./types").View} View */
/** @typedef {import("./types").Thing} Thing */

/**
 * The state after each step: its objects and its shapes, by their ids.
 * @param {View} view
 */
export function addUp(view) {
  /** @type {Map<string, Thing>} */
  let things = new Map();
  /** @type {Map<string, string>} */
  let shapes = new Map();
  return view.frames.map((frame) => {
    things = new Map(things);
    shapes = new Map(shapes);
    for (const id of frame.drop) things.delete(id);
    for (const thing of frame.set) things.set(thing.id, thing);
    for (const id of frame.erase) shapes.delete(id);
    for (const shape of frame.draw) shapes.set(shape.id, shape.svg);
    return { things, shapes };
  });
}

const TIPS = ["ref", "func", "use", "list", "name", "stale"].map((name) =>
  `<marker id="${name}-tip" class="tip ${name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" ` +
  `orient="auto" markerUnits="userSpaceOnUse"><path d="M0 0L8 4L0 8z"/></marker>`).join("");

/**
 * The whiteboard of a state; what the step before has changed is marked.
 * @param {View} view
 * @param {ReturnType<typeof addUp>} states
 * @param {number} at
 * @returns {string} SVG
 */
export function board(view, states, at) {
  const now = states[at].shapes;
  const before = at > 0 ? states[at - 1].shapes : now;
  /** @type {Record<string, string[]>} */
  const layers = { boxes: [], arrows: [], tags: [] };
  for (const [id, svg] of now) {
    const layer = id.includes("@") ? "tags" : id.includes(".") ? "arrows" : "boxes";
    const was = before.get(id);
    const mark = was === undefined ? " fresh changed" : was === svg ? "" : " changed";
    layers[layer].push(`<g class="shape${mark}" data-shape="${quoted(id)}">${svg}</g>`);
  }
  const { width, height } = view.board;
  return `<svg xmlns="http://www.w3.org/2000/svg" class="picture" viewBox="0 0 ${width} ${height}" role="img" ` +
    `aria-label="The state after step ${at}"><defs>${TIPS}</defs>` +
    Object.entries(layers).map(([name, parts]) => `<g class="${name}">${parts.join("")}</g>`).join("") + "</svg>";
}

/**
 * Marks the lines of boxes that differ from those of the state before.
 * @param {Element} root
 * @param {ReturnType<typeof addUp>} states
 * @param {number} at
 */
export function markLines(root, states, at) {
  if (at === 0) return;
  for (const shape of root.querySelectorAll(".boxes > .changed:not(.fresh)")) {
    const was = states[at - 1].shapes.get(shape.getAttribute("data-shape") ?? "");
    if (was === undefined) continue;
    const old = new Map();
    for (const text of parsed(was).querySelectorAll("text")) old.set(text.getAttribute("y"), text.textContent);
    for (const text of shape.querySelectorAll("text")) {
      if (old.get(text.getAttribute("y")) !== text.textContent) text.classList.add("hot");
    }
  }
}

/**
 * @param {string} svg
 * @returns {Element}
 */
function parsed(svg) {
  const root = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  root.innerHTML = svg;
  return root;
}

/**
 * The timeline.
 * @param {View} view
 * @returns {string} SVG
 */
export function timeline(view) {
  const { width, height, svg } = view.timeline;
  return `<svg xmlns="http://www.w3.org/2000/svg" class="picture" viewBox="0 0 ${width} ${height}" role="group" ` +
    `aria-label="Timeline">${svg}</svg>`;
}

/** @param {string} text */
export function quoted(text) {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
