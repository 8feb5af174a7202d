// What all explorers use. This text stands before the explorer's own in one module (base.py),
// so these are plain functions, and nothing here is exported.

// ---- elements ----------------------------------------------------------------------------

// An element: make("button", { type: "button", onclick: f, "aria-label": "play" }, "Play").
// Functions become event listeners, true a bare attribute; false, null and undefined none.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// To a notebook in command mode "b" means another cell, and an arrow the next one. Jupyter leaves
// its shortcuts alone where the very element with the focus has this attribute (on one around it,
// it is of no use); those with Ctrl, Alt or Meta, such as saving, stay the notebook's.
function keepKeys({ target, ctrlKey, altKey, metaKey }) {
  target.toggleAttribute("data-lm-suppress-shortcuts", !(ctrlKey || altKey || metaKey));
}

// The explorer's root inside `el`: class "bckd" for theme.css, and one of its own.
function makeRoot(el, ownClass, label, ...children) {
  const root = make("section", {
    class: `bckd ${ownClass}`, "aria-label": label,
    onfocusin: keepKeys, onkeydown: keepKeys, onkeyup: keepKeys,
  }, ...children);
  el.classList.add("bckd-frame");
  el.replaceChildren(root);
  return root;
}

// ---- labelled controls: each has .element to place and .set(value) to show a value --------

function makeButton(text, onPress, attributes = {}) {
  return make("button", { type: "button", onclick: onPress, ...attributes }, text);
}

// A word of a sentence that sets the figure.
const makeWord = (text, onPress) => makeButton(text, onPress, { class: "word" });

// Guided steps: buttons, and one sentence on what to see. steps: { key: { text, reading } }.
function makeGuide(steps, { label, invitation, onStep }) {
  const buttons = Object.entries(steps).map(([key, { text }]) =>
    makeButton(text, () => onStep(key), { "data-preset": key }));
  const reading = make("p", { class: "reading", "aria-live": "polite" });
  return {
    buttons: make("div", { class: "row", role: "group", "aria-label": label }, ...buttons), reading,
    set(current) {
      buttons.forEach((button) => button.setAttribute("aria-pressed", button.dataset.preset === current));
      const sentence = steps[current]?.reading ?? invitation;
      if (reading.textContent !== sentence) reading.textContent = sentence; // read aloud when it changes
    },
  };
}

function makeSlider({ label, min, max, step, format = String, onChange }) {
  const shown = make("output", { class: "small" });
  const input = make("input", {
    type: "range", min, max, step, oninput: () => onChange(Number(input.value)),
  });
  const element = make("label", {}, label, input, shown);
  return {
    element, input,
    set(value) {
      input.value = value;
      shown.textContent = format(value);
      input.setAttribute("aria-valuetext", format(value));
    },
  };
}

// options: [[value, text], ...]
function makeSelect({ label, options, onChange }) {
  const items = options.map(([value, text]) => make("option", { value }, text));
  const select = make("select", { onchange: () => onChange(options[select.selectedIndex][0]) }, ...items);
  return {
    element: make("label", {}, label, select), select,
    set(value) { select.selectedIndex = options.findIndex(([option]) => option === value); },
  };
}

let radioGroups = 0;
function makeRadios({ label, options, onChange }) {
  const name = `bckd-radio-${radioGroups++}-${Math.random().toString(36).slice(2)}`;
  const inputs = options.map(([value]) => make("input", { type: "radio", name, onchange: () => onChange(value) }));
  const labels = options.map(([, text], n) => make("label", {}, inputs[n], text));
  return {
    element: make("fieldset", {}, make("legend", {}, label), ...labels), inputs,
    set(value) { inputs.forEach((input, n) => { input.checked = options[n][0] === value; }); },
  };
}

function makeCheckbox({ label, onChange }) {
  const input = make("input", { type: "checkbox", onchange: () => onChange(input.checked) });
  return { element: make("label", {}, input, label), input, set(value) { input.checked = value; } };
}

// ---- state and data ------------------------------------------------------------------------

// Changes settings and tells the other side at most once a frame:
//   const change = stateChanger(model);  change({ step: 4 });
// The explorer draws when the model says so, whoever changed it:
//   model.on("change:state", draw);
function stateChanger(model) {
  let asked = false;
  return (patch) => {
    model.set("state", { ...model.get("state"), ...patch });
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; model.save_changes(); });
  };
}

const TYPED_ARRAYS = {
  uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array,
  uint32: Uint32Array, int32: Int32Array, float32: Float32Array, float64: Float64Array,
};

// {dtype, shape, buffer} as base.py packs it -> { values: typed array, shape }.
function decode(packed) {
  const view = packed.buffer; // a DataView, at any offset: typed arrays want an aligned copy
  const bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
  return { values: new TYPED_ARRAYS[packed.dtype](bytes), shape: packed.shape };
}

// JSON of the static page -> what a kernel would have sent: base64 becomes a DataView.
function withBuffers(value) {
  if (Array.isArray(value)) return value.map(withBuffers);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.base64 === "string") {
    const bytes = Uint8Array.from(atob(value.base64), (letter) => letter.charCodeAt(0));
    return { dtype: value.dtype, shape: value.shape, buffer: new DataView(bytes.buffer) };
  }
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withBuffers(item)]));
}

// The widget model's part that explorers use, without a kernel.
function staticModel(values) {
  const listeners = new Map();
  return {
    get: (name) => values[name],
    set(name, value) {
      values[name] = value;
      for (const listener of listeners.get(`change:${name}`) ?? []) listener();
    },
    on(event, listener) { listeners.set(event, [...(listeners.get(event) ?? []), listener]); },
    off(event, listener) {
      listeners.set(event, (listeners.get(event) ?? []).filter((other) => other !== listener));
    },
    save_changes() {},
  };
}

// Module scripts run in the order of the page: each takes the first place that is still free.
function mountStatic(stem, render) {
  const host = document.querySelector(`[data-bckd="${stem}"]:not([data-mounted])`);
  const content = JSON.parse(host.querySelector("script").textContent);
  host.setAttribute("data-mounted", "");
  host.model = staticModel({ state: content.state, data: withBuffers(content.data) });
  render({ model: host.model, el: host });
}

// ---- numbers -------------------------------------------------------------------------------

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const sum = (values) => values.reduce((total, value) => total + value, 0);

const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

function logSoftmax(logits, temperature = 1) {
  const scaled = Array.from(logits, (logit) => logit / temperature);
  const top = Math.max(...scaled);
  const rest = Math.log(sum(scaled.map((value) => Math.exp(value - top))));
  return scaled.map((value) => value - top - rest);
}
const softmax = (logits, temperature = 1) => logSoftmax(logits, temperature).map(Math.exp);

// A number as text with a true minus sign and without "-0.00".
function fixed(value, digits = 2) {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "\u2212");
}

// ---- colours -------------------------------------------------------------------------------

// Nine colours a scale, mixed in between. Viridis and magma are matplotlib's (CC0); diverging
// runs from the palette's blue to its vermilion.
const COLOUR_TABLES = {
  viridis: ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#27ad81", "#5cc863", "#aadc32", "#fde725"],
  magma: ["#000004", "#1d1147", "#51127c", "#832681", "#b73779", "#e55064", "#fb8761", "#fec287", "#fcfdbf"],
  diverging: ["#003f63", "#0072b2", "#56a0d0", "#a9cfe8", "#f4f4f4", "#f6c5a3", "#e88b4d", "#d55e00", "#7a3600"],
};

// colourScale("viridis")(0.3) -> [red, green, blue], 0 to 255; the value is cut to 0..1.
function colourScale(name) {
  const table = COLOUR_TABLES[name].map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  return (value) => {
    const place = clamp(value, 0, 1) * (table.length - 1);
    const below = Math.min(Math.floor(place), table.length - 2);
    return table[below].map((channel, n) => Math.round(channel + (place - below) * (table[below + 1][n] - channel)));
  };
}

// A colour of theme.css for a canvas: cssColour(root, "--bckd-ink").
function cssColour(root, variable) {
  const probe = make("span", { style: `color: var(${variable}); display: none` });
  root.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

// ---- canvas --------------------------------------------------------------------------------

// Sizes the canvas for the screen's pixels; returns a context that counts in CSS pixels, cleared.
function sharpContext(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

// A map of height x width values in 0..1 as a small picture, to be drawn enlarged:
//   context.imageSmoothingEnabled = false; context.drawImage(mapPicture(...), x, y, w, h);
function mapPicture(values, height, width, scale) {
  const picture = document.createElement("canvas");
  picture.width = width;
  picture.height = height;
  const pixels = new ImageData(width, height);
  for (let n = 0; n < width * height; n++) pixels.data.set([...scale(values[n]), 255], 4 * n);
  picture.getContext("2d").putImageData(pixels, 0, 0);
  return picture;
}

// Round numbers from low to high, about `count` of them.
function ticks(low, high, count = 5) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) found.push(Number((n * step).toPrecision(12)));
  return found;
}

// Axes of a line chart. box: { left, top, width, height } in CSS pixels; x, y: [low, high];
// xTicks: [[value, text], ...] in place of round numbers.
// Returns { toX, toY } from values to pixels.
function drawAxes(context, root, box, { x, y, xLabel = "", yLabel = "", xTicks = null }) {
  const toX = (value) => box.left + (box.width * (value - x[0])) / (x[1] - x[0] || 1);
  const toY = (value) => box.top + box.height * (1 - (value - y[0]) / (y[1] - y[0] || 1));
  context.font = `11px ${getComputedStyle(root).fontFamily}`;
  context.fillStyle = cssColour(root, "--bckd-quiet");
  context.strokeStyle = cssColour(root, "--bckd-line");
  context.lineWidth = 1;
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const tick of ticks(...y, Math.max(2, Math.round(box.height / 40)))) {
    line(context, [[box.left, toY(tick)], [box.left + box.width, toY(tick)]]);
    context.fillText(tickText(tick), box.left - 5, toY(tick));
  }
  context.textBaseline = "top";
  context.textAlign = "center";
  const bottom = box.top + box.height;
  const round = () => ticks(...x, Math.max(2, Math.round(box.width / 70))).map((tick) => [tick, tickText(tick)]);
  for (const [tick, text] of xTicks ?? round()) {
    line(context, [[toX(tick), bottom], [toX(tick), bottom + 4]]);
    context.fillText(text, toX(tick), bottom + 6);
  }
  context.fillText(xLabel, box.left + box.width / 2, bottom + 21);
  context.textAlign = "left";
  context.textBaseline = "bottom";
  context.fillText(yLabel, box.left, box.top - 4);
  return { toX, toY };
}

const tickText = (value) => String(value).replace("-", "\u2212");

function line(context, points) {
  context.beginPath();
  points.forEach(([x, y], n) => (n ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.stroke();
}

// Calls `draw` whenever the element's width or the colours around it change; returns a function
// that stops it, for `render` to return.
function redrawOnChange(element, draw) {
  let width = 0;
  const sizes = new ResizeObserver(() => {
    if (element.clientWidth === width) return;
    width = element.clientWidth;
    draw();
  });
  sizes.observe(element);
  // JupyterLab hides everything while it changes its theme: the next frame has a width again.
  let frame = 0;
  const themes = new MutationObserver(() => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(draw);
  });
  const options = { attributes: true, attributeFilter: ["class", "data-theme", "data-jp-theme-light", "data-jp-theme-name"] };
  themes.observe(document.documentElement, options);
  themes.observe(document.body, options);
  const preference = window.matchMedia("(prefers-color-scheme: dark)");
  preference.addEventListener("change", draw);
  return () => {
    sizes.disconnect();
    themes.disconnect();
    cancelAnimationFrame(frame);
    preference.removeEventListener("change", draw);
  };
}

// ---- maps beside a picture -------------------------------------------------------------------

// Class and level of the maps; `edit` takes a patch of the state.
function makeMapControls(data, edit) {
  const classOf = makeSelect({
    label: "class", options: [[null, "all classes"], ...data.classes.map((name) => [name, name])],
    onChange: (value) => edit({ class_name: value }),
  });
  const level = makeSelect({
    label: "level", options: [[null, "highest of all"], ...data.levels.map(([stride]) => [stride, `stride ${stride}`])],
    onChange: (value) => edit({ stride: value }),
  });
  return { classOf, level };
}

// The picture in a frame of its shape; `over` lies on top.
function makePicture({ picture, size: [width, height] }, ...over) {
  const image = make("img", { src: picture, alt: "", draggable: "false" });
  const element = make("div", { class: "map-frame" }, image, ...over);
  element.style.aspectRatio = `${width} / ${height}`;
  return { element };
}

// A map in a frame of the picture's shape, one canvas pixel a cell of the finest level.
function makeMap({ size: [width, height], levels }, ...over) {
  const [stride, rows, columns] = levels[0];
  const canvas = make("canvas", { width: columns, height: rows, "aria-hidden": "true" });
  // The last cells may reach beyond the picture.
  canvas.style.width = `${(100 * columns * stride) / width}%`;
  canvas.style.height = `${(100 * rows * stride) / height}%`;
  const element = make("div", { class: "map-frame" }, canvas, ...over);
  element.style.aspectRatio = `${width} / ${height}`;
  return {
    element,
    // values: one a location, of which `reach` has the last colour; speakers: the location of each pixel.
    paint(values, speakers, scaleName, reach) {
      const cells = Array.from(speakers, (location) => values[location] / reach);
      canvas.getContext("2d").drawImage(mapPicture(cells, rows, columns, colourScale(scaleName)), 0, 0);
    },
  };
}

// The location that speaks for each cell of the finest level: that of the chosen level, or of all
// levels that with the highest value. stack: [level][cell], from Python.
function speakersOf(values, { values: stack, shape: [count, rows, columns] }, level) {
  const cells = rows * columns;
  const found = new Int32Array(cells);
  for (let cell = 0; cell < cells; cell++) {
    let best = stack[(level ?? 0) * cells + cell];
    for (let n = 1; level === null && n < count; n++) {
      const location = stack[n * cells + cell];
      if (values[location] > values[best]) best = location;
    }
    found[cell] = best;
  }
  return found;
}

// The colours of maps and, at their ends, the values.
function makeColourBar() {
  const ramp = make("div", { class: "ramp" });
  const ends = ["0", "", ""].map((text) => make("span", {}, text));
  const label = make("span", { class: "small" });
  const element = make("div", { class: "colour-bar" }, ramp, make("div", { class: "ends small quiet" }, ...ends), label);
  return {
    element,
    set(scaleName, text, reach) {
      ramp.style.background = `linear-gradient(to right, ${COLOUR_TABLES[scaleName].join(", ")})`;
      [ends[1].textContent, ends[2].textContent] = [reach / 2, reach].map((value) => fixed(value, 2));
      label.textContent = text;
    },
  };
}

// ---- boxes on a picture ----------------------------------------------------------------------

// The parser knows the name of SVG, so no address stands on the page.
const SVG = new DOMParser().parseFromString("<svg></svg>", "text/html").querySelector("svg").namespaceURI;

function makeShape(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A drawing over a map or a picture, in the picture's pixels.
const makeDrawing = ({ size: [width, height] }, ...shapes) =>
  makeShape("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, ...shapes);

// A box as two lines, a broad one to stand out from any picture and its own above it.
function makeBox(ownClass, box) {
  const lines = ["halo", "line"].map((part) => makeShape("rect", { class: `${part} ${ownClass}` }));
  const set = ([x, y, right, bottom]) => {
    const place = { x, y, width: Math.max(0, right - x), height: Math.max(0, bottom - y) };
    for (const rect of lines) for (const [name, value] of Object.entries(place)) rect.setAttribute(name, value);
  };
  if (box) set(box);
  return { lines, set };
}

// Overlap of two boxes over their union.
function iou(a, b) {
  const area = ([x, y, right, bottom]) => (right - x) * (bottom - y);
  const width = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const height = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  return (width * height) / Math.max(area(a) + area(b) - width * height, 1e-6);
}
