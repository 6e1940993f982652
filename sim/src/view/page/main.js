// The page: what was chosen, what is shown of it, and the buttons. What can happen, the program says.

import { addUp, board, markLines, quoted, timeline } from "./picture.js";
import { nowhere, read, write } from "./address.js";

/** @typedef {import("./types").Shown} Shown */
/** @typedef {import("./types").View} View */
/** @typedef {import("./types").Catalog} Catalog */
/** @typedef {import("./types").Search} Search */
/** @typedef {import("./types").Actor} Actor */

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @returns {T}
 */
function part(id) {
  return /** @type {T} */ (document.getElementById(id));
}

const LEGEND = "Boxes are objects, arrows pointers; a dashed arrow with a crossed box is a pointer to memory that is gone. " +
  "A tag with a CPU's name is a pointer in its local variables. ■ holds a lock, ← waits for whom, ▒ is a reader, ] a grace " +
  "period that has begun; ● a program in a map, ○ a place for one. What the last step has changed is marked. In the timeline " +
  "a bar is a lock, shading a read side, a bracket a grace period; + is a function that a series of patches adds.";

/** What is shown; none before the first answer. */
let shown = /** @type {Shown | null} */ (JSON.parse(part("data").textContent ?? "null"));
/** A file that was sent shows its run alone: there is no program behind it. */
const live = shown === null;
let address = nowhere();
let states = /** @type {ReturnType<typeof addUp>[]} */ ([]);
/** The boards of two designs have been scrolled to what they differ in. */
let lowered = false;
let player = 0;
/** The number of the search that goes on, and how often one was begun. */
let searching = 0;

// ---- the program ------------------------------------------------------------------------------------

/**
 * @param {string} path
 * @param {unknown} [body]
 * @returns {Promise<any>}
 */
async function ask(path, body) {
  const init = body === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, init);
  const json = await answer.json();
  if (!answer.ok) throw json;
  return json;
}

/** What the program has to know to show something. */
function wanted() {
  const { scenario, toml, design, beside, path } = address;
  return { scenario, toml, design, beside, path };
}

/**
 * Shows what the address says.
 * @param {boolean} [remember] as a place of its own in the history
 */
async function go(remember = true) {
  stop();
  try {
    shown = await ask("api/view", wanted());
    say("");
  } catch (mistake) {
    wrong(mistake);
    return;
  }
  await arrived(remember);
}

/** @param {boolean} remember */
async function arrived(remember) {
  if (!shown) return;
  const { view, beside } = shown;
  states = [addUp(view)];
  if (beside) states.push(addUp(beside.view));
  address.at = Math.min(address.at, view.steps.length);
  if (live) {
    const to = await write(address);
    if (to !== location.hash) history[remember ? "pushState" : "replaceState"](null, "", to);
  }
  layOut();
  draw();
}

/** @param {any} mistake */
function wrong(mistake) {
  const text = mistake?.message ?? String(mistake);
  say(text);
  mark(mistake?.line ?? null);
  if (part("editor").hidden) edit(true);
}

/** @param {string} text */
function say(text) {
  part("mistake").textContent = text;
  if (!text) mark(null);
}

// ---- what is shown ------------------------------------------------------------------------------------

/** Builds what does not change from step to step. */
function layOut() {
  if (!shown) return;
  const { view, beside } = shown;
  part("heading").textContent = beside ? view.scenario.name : `${view.scenario.name} under ${view.design}`;
  part("heading").title = `${view.scenario.title}. ${view.scenario.question}`;
  document.title = `${view.scenario.name} under ${view.design}`;
  part("main").classList.toggle("two", beside !== null);
  if (beside) {
    const parted = beside.parted ? ` <span class="parted">parts at step ${beside.parted.step}: ${quoted(beside.parted.why)}</span>` : "";
    part("left").innerHTML = half(view, "");
    part("right").innerHTML = half(beside.view, parted);
    part("both").innerHTML = together(view, beside.view);
    lowered = false;
    compare();
  } else {
    part("left").innerHTML = timeline(view);
    part("right").innerHTML = `<div class="board"></div>`;
  }
  part("both").hidden = beside === null;
  if (!beside) part("both").innerHTML = "";
  const boards = [...document.querySelectorAll("#main .board")];
  for (const place of boards) {
    place.addEventListener("scroll", () => {
      for (const other of boards) if (other.scrollTop !== place.scrollTop) other.scrollTop = place.scrollTop;
    });
  }
  for (const step of document.querySelectorAll("#main .step")) {
    step.setAttribute("role", "button");
    step.setAttribute("tabindex", "-1");
    step.addEventListener("click", () => goTo(Number(step.getAttribute("data-step"))));
  }
  const { scenario, design } = view;
  if (live) {
    const select = /** @type {HTMLSelectElement} */ (part("scenario"));
    select.value = scenario.shipped ? scenario.name : "";
    offer(select.value);
    choose(/** @type {HTMLSelectElement} */ (part("design")), design);
    choose(/** @type {HTMLSelectElement} */ (part("beside")), beside?.view.design ?? "");
    const text = /** @type {HTMLTextAreaElement} */ (part("text"));
    if (part("editor").hidden) text.value = scenario.toml;
    /** @type {HTMLInputElement} */ (part("mix")).value = design;
    number();
  }
}

/** What there is to choose from. */
let catalog = /** @type {Catalog} */ ({ scenarios: [], designs: [] });

/**
 * Offers the designs under which a scenario has a meaning; all of them for one that is not in the list.
 * @param {string} scenario
 * @returns {string[]} their names
 */
function offer(scenario) {
  const its = catalog.scenarios.find((s) => s.name === scenario)?.designs;
  const offered = catalog.designs.filter(({ name }) => !its || its.includes(name));
  for (const id of ["design", "beside"]) {
    const select = /** @type {HTMLSelectElement} */ (part(id));
    const before = select.value;
    select.textContent = "";
    if (id === "beside") select.add(new Option("(no other)", ""));
    for (const { name, about } of offered) {
      const option = new Option(name, name);
      option.title = about;
      select.add(option);
    }
    if ([...select.options].some((o) => o.value === before)) select.value = before;
  }
  return offered.map((d) => d.name);
}

/**
 * Chooses a value, which a mixed design adds to the list.
 * @param {HTMLSelectElement} select
 * @param {string} value
 */
function choose(select, value) {
  if (![...select.options].some((o) => o.value === value)) select.add(new Option(value, value));
  select.value = value;
}

/**
 * @param {View} view
 * @param {string} more
 */
function half(view, more) {
  return `<div class="half"><h2>${quoted(view.design)}${more}</h2><div class="board"></div></div>`;
}

/**
 * The steps of both designs as one list.
 * @param {View} one
 * @param {View} other
 */
function together(one, other) {
  const steps = Array.from({ length: Math.max(one.steps.length, other.steps.length) }, (_, i) => {
    const [a, b] = [one.steps[i], other.steps[i]];
    const where = (/** @type {import("./types").Step} */ s) => s.function ? (s.series ? "+" : "") + s.function : `[${s.code}]`;
    const same = a && b && where(a) === where(b) && a.event === b.event;
    const tell = (/** @type {View} */ v, /** @type {import("./types").Step | undefined} */ s) => {
      const broke = (s?.broke ?? []).map((id) => ` <span class="broke">✗ ${quoted(id)}</span>`).join("");
      const text = s ? `<code>${quoted(where(s))}</code> ${quoted(s.event)}` : "–";
      return `<span class="tell">${same ? "" : `<i>${quoted(v.design)}</i> `}${text}${broke}</span>`;
    };
    const actor = (a ?? b).actor;
    return `<li class="step ${colour(actor)}" data-step="${i + 1}"><b>${i + 1} ${quoted(actor)}</b>` +
      `<div>${tell(one, a)}${same && !b.broke.length && !a.broke.length ? "" : tell(other, b)}</div></li>`;
  });
  return `<ol aria-label="Steps of both designs"><li class="step" data-step="0"><b></b><div>set-up</div></li>${steps.join("")}</ol>`;
}

/** Marks the steps at which two designs do or say something else. */
function compare() {
  if (!shown?.beside) return;
  const [one, other] = [shown.view.steps, shown.beside.view.steps];
  for (const step of document.querySelectorAll("#main .step")) {
    const i = Number(step.getAttribute("data-step")) - 1;
    const [a, b] = [one[i], other[i]];
    const same = i < 0 || (a && b && a.label === b.label && a.event === b.event);
    step.classList.toggle("differs", !same);
  }
}

/** Shows the state after the step that was chosen. */
function draw() {
  if (!shown) return;
  const { view, beside } = shown;
  const at = address.at;
  const boards = document.querySelectorAll("#main .board");
  const views = beside ? [view, beside.view] : [view];
  boards.forEach((place, i) => {
    const there = Math.min(at, states[i].length - 1);
    place.innerHTML = board(views[i], states[i], there);
    markLines(place, states[i], there);
  });
  if (beside) markDifferences([...boards], at);
  for (const step of document.querySelectorAll("#main .step")) {
    const number = Number(step.getAttribute("data-step"));
    step.classList.toggle("here", number === at);
    step.classList.toggle("later", number > at);
    if (number === at) {
      step.setAttribute("aria-current", "step");
      step.setAttribute("tabindex", "0");
      // The focus goes along, if it is on a step.
      if (document.activeElement?.classList.contains("step")) /** @type {SVGElement} */ (step).focus({ preventScroll: true });
    } else {
      step.removeAttribute("aria-current");
      step.setAttribute("tabindex", "-1");
    }
  }
  for (const row of document.querySelectorAll("#main .row")) {
    row.classList.toggle("here", Number(row.getAttribute("data-row")) === at);
  }
  part("count").textContent = `step ${at} of ${view.steps.length}`;
  enable("start", at > 0);
  enable("back", at > 0);
  enable("forward", at < view.steps.length || only() !== null);
  enable("end", at < view.steps.length);
  enable("play", at < view.steps.length);
  enable("next", nextBroken() !== null || (live && !view.ended));
  part("step").innerHTML = beside && at > 0
    ? views.map((v) => `<div class="one"><h3>${quoted(v.design)}</h3>${at <= v.steps.length ? told(v, at) : parted(at)}</div>`).join("")
    : `<div class="whole">${told(view, at)}</div>`;
  // Whoever goes on by Tab and Enter stays among the choices.
  const among = part("choices").contains(document.activeElement);
  part("choices").innerHTML = choices(view, at);
  for (const button of part("choices").querySelectorAll("button[data-choice]")) {
    button.addEventListener("click", () => take(Number(button.getAttribute("data-choice"))));
  }
  if (among) /** @type {HTMLElement | null} */ (part("choices").querySelector("button[data-choice]"))?.focus();
  // When all have the size that they will have.
  inSight();
}

/**
 * The step that is shown, and where there is no room for whole boards maps and what they point to, and then what has
 * changed of that; two boards are scrolled alike.
 */
function inSight() {
  for (const step of document.querySelectorAll("#main .step.here")) step.scrollIntoView({ block: "nearest" });
  const boards = [...document.querySelectorAll("#main .board")];
  if (!boards.length) return;
  const middle = boards[0].querySelector(".boxes > [data-shape^=map]");
  if (boards.length > 1 && !lowered) middle?.scrollIntoView({ block: "center" });
  lowered = true;
  for (const place of boards) {
    const changed = [...place.querySelectorAll(".boxes > .changed")].filter((s) => !s.querySelector(".box.cpu"));
    changed.pop()?.scrollIntoView({ block: "nearest" });
  }
  const top = Math.max(...boards.map((b) => b.scrollTop));
  for (const place of boards) place.scrollTop = top;
}

/**
 * @param {Element[]} boards
 * @param {number} at
 */
function markDifferences(boards, at) {
  const [one, other] = states.map((s) => s[Math.min(at, s.length - 1)].shapes);
  for (const [i, place] of boards.entries()) {
    const theirs = i === 0 ? other : one;
    for (const shape of place.querySelectorAll(".boxes > .shape")) {
      const id = shape.getAttribute("data-shape") ?? "";
      shape.classList.toggle("differs", theirs.get(id) !== (i === 0 ? one : other).get(id));
    }
  }
}

/**
 * @param {string} id
 * @param {boolean} possible
 */
function enable(id, possible) {
  /** @type {HTMLButtonElement} */ (part(id)).disabled = !possible;
}

/**
 * Why there is no such step under the other design.
 * @param {number} at
 */
function parted(at) {
  const where = shown?.beside?.parted;
  return `<p class="parted">${where ? `parts at step ${where.step}: ${quoted(where.why)}` : `no step ${at}`}</p>`;
}

/**
 * What the step did.
 * @param {View} view
 * @param {number} at
 */
function told(view, at) {
  if (at === 0) {
    return `<h2>${quoted(view.scenario.title)}</h2><p class="question">${quoted(view.scenario.question)}</p>` +
      `<p>The state after the set-up, under ${quoted(view.design)}. Functions are those of Linux ${quoted(view.linux)}.</p>` +
      (live ? `<p>Choose what comes next, or let <i>Shortest counterexamples</i> find what breaks. <kbd>?</kbd> shows the keys.</p>` : "");
  }
  const step = view.steps[at - 1];
  const where = step.function ? `<code title="${quoted(step.file ?? "")}">${quoted(step.function)}()</code>` : `[${quoted(step.code ?? "")}]`;
  const series = step.series ? ` <small>(kernel-patches/${quoted(step.series)} adds it)</small>` : "";
  const broke = step.broke.map((id) => `<p class="broke">✗ breaks ${quoted(id)}: ${quoted(view.promises[id] ?? "")}</p>`).join("");
  const ends = at === view.steps.length ? view.violated.filter((v) => v.step === null) : [];
  const end = ends.map((v) => `<p class="broke">✗ in the final state: ${quoted(v.invariant)}: ${quoted(view.promises[v.invariant] ?? "")}</p>`).join("");
  const changes = step.changes.map((c) => `<li>${quoted(changed(c))}</li>`).join("");
  return `<h2>${at}. ${quoted(step.actor)} in ${where}${series}</h2><p>${quoted(step.event)}</p>${broke}${end}` +
    (changes ? `<ul aria-label="What changed">${changes}</ul>` : "");
}

/** @param {import("./types").Change} change */
function changed(change) {
  const dot = change.object ? "." : "";
  if (change.change === "set") return `${change.object}${dot}${change.field}: ${change.from} → ${change.to}`;
  if (change.change === "gone") return `${change.object} is gone`;
  return `${change.object} is new: ${(change.fields ?? []).map((f) => `${f.field} ${f.value}`).join(", ")}`;
}

/** @param {string} name */
function colour(name) {
  return name.startsWith("cpu") ? `a${Number(name.slice(3)) % 4}` : "aw";
}

/**
 * What may come next, by CPU.
 * @param {View} view
 * @param {number} at
 */
function choices(view, at) {
  let key = 0;
  const taken = view.path ? digits(view.path)[at] : undefined;
  return view.frames[at].actors.map((actor) => {
    const buttons = actor.choices.map((choice) => {
      key += 1;
      const hint = key < 10 ? ` <kbd>${key}</kbd>` : "";
      const next = choice.index === taken ? " ▸" : "";
      return `<button type="button" data-choice="${choice.index}" title="${quoted(`${choice.label}: ${choice.what}`)}">` +
        `${quoted(choice.text)}${next}${hint}</button>`;
    });
    const does = buttons.length ? buttons.join("") : `<button type="button" disabled>${quoted(actor.waits)}</button>`;
    const plan = actor.plan.map((word, i) => (actor.fixed && i < actor.done ? `✓ ${word}` : word)).join(actor.fixed ? " → " : ", ");
    return `<div class="actor ${colour(actor.name)}"><b>${quoted(actor.name === "work" ? "worker" : actor.name)}</b>` +
      `<div class="does">${does}</div>${plan ? `<small title="${quoted(plan)}">${actor.fixed ? "" : "any of: "}${quoted(plan)}</small>` : ""}</div>`;
  }).join("");
}

/**
 * The choices of a path, as the program writes them.
 * @param {string} path
 */
function digits(path) {
  return (path.match(/_\d+_|[0-9a-z]/g) ?? []).map((c) => (c.startsWith("_") ? Number(c.slice(1, -1)) : parseInt(c, 36)));
}

/** @param {number} choice */
function digit(choice) {
  return choice < 36 ? choice.toString(36) : `_${choice}_`;
}

// ---- going there --------------------------------------------------------------------------------------

/** @param {number} at */
async function goTo(at) {
  if (!shown) return;
  address.at = Math.max(0, Math.min(at, shown.view.steps.length));
  if (live) history.replaceState(null, "", await write(address));
  draw();
}

/** The only thing that can happen at the end of the path, if there is but one. */
function only() {
  if (!shown || !live || address.at < shown.view.steps.length) return null;
  const possible = shown.view.frames[address.at].actors.flatMap((a) => a.choices);
  return possible.length === 1 ? possible[0].index : null;
}

async function forward() {
  const choice = only();
  if (choice !== null) await take(choice);
  else if (shown && address.at < shown.view.steps.length) await goTo(address.at + 1);
}

/**
 * Takes a step: the next one of the path, or another one, which ends the path there.
 * @param {number} choice
 */
async function take(choice) {
  if (!shown || !live) return;
  const path = digits(shown.view.path);
  if (path[address.at] !== choice) address.path = path.slice(0, address.at).map(digit).join("") + digit(choice);
  address.at += 1;
  if (path[address.at - 1] === choice) await goTo(address.at);
  else await go();
}

function nextBroken() {
  const later = shown?.view.steps.find((s) => s.step > address.at && s.broke.length > 0);
  if (later) return later.step;
  const end = shown?.view.violated.some((v) => v.step === null) && shown.view.steps.length;
  return end && end > address.at ? end : null;
}

/** To the next violation of the path, or to the nearest one that can be reached from here. */
async function next() {
  const there = nextBroken();
  if (there !== null) return goTo(there);
  if (!shown || !live) return;
  const path = digits(shown.view.path).slice(0, address.at).map(digit).join("");
  await search({ ...wanted(), path, nearest: true }, (found) => {
    const [first] = found;
    if (first) show(first.path, false);
  });
}

/**
 * @param {string} path
 * @param {boolean} start from the start, or to the end
 */
function show(path, start) {
  address = { ...address, path, at: start ? 0 : Infinity };
  go();
}

function stop() {
  if (player) clearInterval(player);
  player = 0;
  part("play").setAttribute("aria-pressed", "false");
  part("play").textContent = "Play";
}

function play() {
  if (player) return stop();
  player = setInterval(() => {
    if (!shown || address.at >= shown.view.steps.length) stop();
    else goTo(address.at + 1);
  }, 900);
  part("play").setAttribute("aria-pressed", "true");
  part("play").textContent = "Pause";
}

// ---- counterexamples ----------------------------------------------------------------------------------

/**
 * Explores, and says how far it is; the same button stops it.
 * @param {object} what
 * @param {(found: Search["found"]) => void} use
 */
async function search(what, use) {
  const button = part("search");
  if (searching) return void (await ask(`api/search/${searching}/stop`, {}));
  part("found").textContent = "";
  try {
    searching = (await ask("api/search", what)).job;
    button.textContent = "Stop";
    for (;;) {
      const state = /** @type {Search} */ (await ask(`api/search/${searching}`));
      part("found").textContent = `${state.states.toLocaleString("en")} states, depth ${state.depth}`;
      if (state.done) {
        part("found").textContent = state.note;
        use(state.found);
        break;
      }
      await new Promise((later) => setTimeout(later, 150));
    }
  } catch (mistake) {
    part("found").textContent = /** @type {any} */ (mistake)?.message ?? String(mistake);
  }
  searching = 0;
  button.textContent = "Shortest counterexamples";
}

/** @param {Search["found"]} found */
function list(found) {
  const place = part("found");
  const note = place.textContent;
  place.textContent = "";
  for (const one of found) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `${one.invariant} · ${one.steps}`;
    button.title = `A shortest run that breaks ${one.invariant}: ${one.steps} steps`;
    button.addEventListener("click", () => show(one.path, false));
    place.append(button);
  }
  const words = document.createElement("span");
  words.className = found.length ? "" : "all";
  words.textContent = note;
  place.append(words);
}

// ---- the editor ---------------------------------------------------------------------------------------

/** @param {boolean} open */
function edit(open) {
  part("editor").hidden = !open;
  part("edit").setAttribute("aria-expanded", String(open));
  if (open) part("text").focus();
}

/** The line that is wrong. */
let bad = /** @type {number | null} */ (null);

/** @param {number | null} line */
function mark(line) {
  bad = line;
  number();
  if (line === null) return;
  const text = /** @type {HTMLTextAreaElement} */ (part("text"));
  const height = text.scrollHeight / Math.max(1, text.value.split("\n").length);
  text.scrollTop = Math.max(0, (line - 4) * height);
}

/** Numbers the lines of the editor. */
function number() {
  const text = /** @type {HTMLTextAreaElement} */ (part("text"));
  const count = text.value.split("\n").length;
  const lines = Array.from({ length: count }, (_, i) => (i + 1 === bad ? `<mark>${i + 1}</mark>` : `${i + 1}`));
  part("lines").innerHTML = lines.join("\n");
  part("lines").scrollTop = text.scrollTop;
}

/** Runs what the editor has. */
function run() {
  const text = /** @type {HTMLTextAreaElement} */ (part("text")).value;
  const design = /** @type {HTMLInputElement} */ (part("mix")).value.trim();
  address = { ...nowhere(), toml: text, design, beside: address.beside };
  return go();
}

// ---- sending ------------------------------------------------------------------------------------------

/**
 * @param {string} name
 * @param {string} text
 * @param {string} type
 */
function save(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** The picture of the state that is shown, as a file of its own. */
function whiteboard() {
  const svg = /** @type {SVGElement} */ (document.querySelector("#main .board svg")?.cloneNode(true));
  const style = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules]).map((r) => r.cssText);
  const own = document.createElementNS("http://www.w3.org/2000/svg", "style");
  own.textContent = style.filter((rule) => rule.includes(".picture")).join("\n");
  svg.prepend(own);
  return new XMLSerializer().serializeToString(svg);
}

/** @type {[string, () => Promise<void> | void, boolean][]} */
const WAYS = [
  ["Copy the address", () => copy(location.href), true],
  ["One HTML file", async () => {
    const answer = await fetch("api/export", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(wanted()) });
    save(name("html"), await answer.text(), "text/html");
  }, true],
  ["SVG of the run", () => save(name("svg"), shown?.view.picture ?? "", "image/svg+xml"), false],
  ["SVG of this state", () => save(name("state.svg"), whiteboard(), "image/svg+xml"), false],
  ["Copy as text for a mail", () => copy(shown?.view.mail ?? ""), false],
  ["Copy as Mermaid", () => copy(shown?.view.mermaid ?? ""), false],
  ["Copy the command", () => copy(shown?.view.command ?? ""), false],
  ["Trace for `replay`", () => save(name("json"), shown?.view.trace ?? "", "application/json"), false],
];

/** @param {string} ending */
function name(ending) {
  return `${shown?.view.scenario.name}-${shown?.view.design}.${ending}`.replace(/[^\w.=-]+/g, "-");
}

/** @param {string} text */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    part("count").textContent = "copied";
  } catch {
    save(name("txt"), text, "text/plain");
  }
}

// ---- the buttons --------------------------------------------------------------------------------------

/**
 * @param {string} button
 * @param {string} pop
 * @param {boolean} [open]
 */
function toggle(button, pop, open = part(pop).hidden) {
  part(pop).hidden = !open;
  part(button).setAttribute("aria-expanded", String(open));
  if (open) /** @type {HTMLElement | null} */ (part(pop).querySelector("button"))?.focus();
}

function theme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
}

/** @type {Record<string, () => unknown>} */
const KEYS = {
  ArrowRight: forward, ArrowLeft: () => goTo(address.at - 1), Home: () => goTo(0), End: () => goTo(Infinity), " ": play,
  n: next, t: theme, "?": () => toggle("help", "keys"),
  Escape: () => { toggle("help", "keys", false); toggle("send", "ways", false); edit(false); },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const target = /** @type {HTMLElement} */ (event.target);
  const writing = ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName);
  if (writing && event.key !== "Escape") return;
  if (event.key === " " && target.tagName === "BUTTON") return;
  if (/^[1-9]$/.test(event.key)) {
    const button = part("choices").querySelectorAll("button[data-choice]")[Number(event.key) - 1];
    if (button) /** @type {HTMLButtonElement} */ (button).click();
    return;
  }
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

/** @type {Record<string, () => unknown>} */
const BUTTONS = {
  start: () => goTo(0), back: () => goTo(address.at - 1), forward, end: () => goTo(Infinity), play, next, theme,
  help: () => toggle("help", "keys"), send: () => toggle("send", "ways"), edit: () => edit(part("editor").hidden),
  close: () => edit(false), run, open: () => part("file").click(),
  search: () => search({ ...wanted(), path: "", nearest: false }, list),
};
for (const [id, act] of Object.entries(BUTTONS)) part(id).addEventListener("click", act);

for (const [words, act, needs] of WAYS) {
  if (needs && !live) continue;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = words;
  button.addEventListener("click", async () => {
    toggle("send", "ways", false);
    await act();
  });
  part("ways").append(button);
}
part("legend").textContent = LEGEND;
part("text").addEventListener("input", () => { bad = null; number(); });
part("text").addEventListener("scroll", () => { part("lines").scrollTop = part("text").scrollTop; });

for (const id of ["scenario", "design", "beside"]) {
  part(id).addEventListener("change", () => {
    const value = (/** @type {string} */ id) => /** @type {HTMLSelectElement} */ (part(id)).value;
    // A scenario that has no meaning under the design that was chosen has one under another.
    if (id === "scenario" && value("scenario")) offer(value("scenario"));
    const changed = { design: value("design"), beside: value("beside") };
    if (id === "scenario" && value("scenario")) {
      address = { ...nowhere(), ...changed, scenario: value("scenario") };
      edit(false);
      part("found").textContent = "";
    } else address = { ...address, ...changed, ...(id === "beside" ? {} : { path: "", at: 0 }) };
    go();
  });
}

part("file").addEventListener("change", async () => {
  const file = /** @type {HTMLInputElement} */ (part("file")).files?.[0];
  if (!file) return;
  try {
    shown = await ask("api/trace", { name: file.name, text: await file.text() });
    say("");
  } catch (mistake) {
    wrong(mistake);
    return;
  }
  if (!shown) return;
  const { scenario, design, path } = shown.view;
  address = { ...nowhere(), toml: scenario.toml, scenario: scenario.name, design, path, at: 0 };
  await arrived(true);
});

window.addEventListener("resize", inSight);
window.addEventListener("popstate", async () => {
  address = await read(location.hash);
  go(false);
});

async function begin() {
  if (!live) {
    document.body.classList.add("sent");
    address.at = Infinity;
    await arrived(false);
    return;
  }
  catalog = await ask("api/catalog");
  const select = /** @type {HTMLSelectElement} */ (part("scenario"));
  select.add(new Option("(your own)", ""));
  for (const { name, title } of catalog.scenarios) {
    const option = new Option(name, name);
    option.title = title;
    select.add(option);
  }
  address = location.hash.length > 1 ? await read(location.hash) : { ...nowhere(), ...(await ask("api/begin")) };
  await go(false);
}

begin();
