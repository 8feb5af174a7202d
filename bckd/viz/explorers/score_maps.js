// Score maps: what teacher and students say at every location of a picture, as a map over it.

// ---- numbers, as in bckd/viz/picture_outputs.py ------------------------------------------------

// Half precision from its bits; Python sends neither infinity nor nan.
const halves = (packed) => Float32Array.from(decode(packed).values, (bits) => {
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  const size = exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14;
  return bits & 0x8000 ? -size : size;
});

// Softmax of each run of `count` logits; one pass without small arrays, as there are many.
function shares(logits, count) {
  const found = new Float64Array(logits.length);
  for (let first = 0; first < logits.length; first += count) {
    let highest = -Infinity;
    for (let k = 0; k < count; k++) highest = Math.max(highest, logits[first + k]);
    let total = 0;
    for (let k = 0; k < count; k++) total += found[first + k] = Math.exp(logits[first + k] - highest);
    for (let k = 0; k < count; k++) found[first + k] /= total;
  }
  return found;
}

// The last result of `compute`, kept until `key` is another.
function remembered(compute) {
  let last = { key: null };
  return (key, ...given) => {
    if (last.key !== key) last = { key, result: compute(...given) };
    return last.result;
  };
}

const rounded = (value) => Number(value.toFixed(6));

function makeNumbers(data) {
  const { models, classes, levels, top } = data;
  const [teacher, ...students] = models;
  const byModel = (packed, read) => Object.fromEntries(models.map((name, n) => [name, read(packed[n])]));
  const logits = byModel(data.logits, halves);
  const boxes = byModel(data.boxes, (packed) => decode(packed).values);
  const centres = decode(data.centres).values;
  const stack = decode(data.stack);
  const count = classes.length;
  const locations = centres.length / 2;
  const ofLocation = (values, location, width) => Array.from(values.subarray(location * width, (location + 1) * width));

  const known = new Map();
  function scoresOf(name, protocol) { // all locations' K scores, one after another
    const key = `${protocol} ${name}`;
    if (!known.has(key)) {
      const own = logits[name];
      known.set(key, protocol === "sigmoid" ? Float64Array.from(own, sigmoid) : shares(own, count));
    }
    return known.get(key);
  }
  function scoresAt(name, protocol, location) {
    const own = ofLocation(logits[name], location, count);
    return protocol === "sigmoid" ? own.map(sigmoid) : softmax(own);
  }

  function mapValues(kind, name, protocol, label) {
    const scores = scoresOf(name, protocol);
    const reference = kind === "score" ? null : scoresOf(teacher, protocol);
    const found = new Float64Array(locations);
    for (let n = 0; n < locations; n++) {
      for (let k = label ?? 0; k <= (label ?? count - 1); k++) {
        const value = scores[n * count + k];
        found[n] = Math.max(found[n], reference ? Math.abs(value - reference[n * count + k]) : value);
      }
    }
    return found;
  }

  function cellOf(location) {
    let level = 0;
    while (location >= levels[level][1] * levels[level][2]) location -= levels[level][1] * levels[level++][2];
    const [stride, , columns] = levels[level];
    return { stride, row: Math.floor(location / columns), column: location % columns };
  }

  // What `location_values` of score_maps.py says.
  function describe(location, value) {
    const forEach = (names, read) => Object.fromEntries(names.map((name) => [name, read(name)]));
    const own = forEach(models, (name) => scoresAt(name, "sigmoid", location));
    const shared = forEach(models, (name) => scoresAt(name, "softmax", location));
    const highest = classes.map((_, k) => Math.max(...models.map((name) => own[name][k])));
    const best = classes.map((_, k) => k).sort((a, b) => highest[b] - highest[a]).slice(0, top);
    const scores = (all, k) => forEach(models, (name) => rounded(all[name][k]));
    const boxOf = (name) => ofLocation(boxes[name], location, 4);
    return {
      location,
      ...cellOf(location),
      centre: ofLocation(centres, location, 2),
      value: rounded(value),
      classes: best.map((k) => ({ name: classes[k], sigmoid: scores(own, k), softmax: scores(shared, k) })),
      boxes: forEach(models, (name) => boxOf(name).map(rounded)),
      mean_logit: forEach(models, (name) => rounded(sum(ofLocation(logits[name], location, count)) / count)),
      iou: forEach(students, (name) => rounded(iou(boxOf(name), boxOf(teacher)))),
      weight: forEach(students, (name) => rounded(Math.max(...own[name].map((score, k) => Math.abs(score - own[teacher][k]))))),
    };
  }

  const valuesFor = remembered(mapValues);
  const speakersFor = remembered((values, level) => speakersOf(values, stack, level));
  return {
    describe,
    // The map that the settings ask for. L_loc's weight is one of sigmoid scores of all classes.
    map({ kind, model, protocol, class_name: className, stride }) {
      const weight = kind === "weight";
      const label = weight || className === null ? null : classes.indexOf(className);
      const view = [kind, model, weight ? "sigmoid" : protocol, label];
      const values = valuesFor(JSON.stringify(view), ...view);
      const key = JSON.stringify([...view, stride]);
      const level = stride === null ? null : levels.findIndex(([each]) => each === stride);
      return { key, values, speakers: speakersFor(key, values, level) };
    },
  };
}

// Overlap of two boxes over their union.
function iou(a, b) {
  const area = ([x, y, right, bottom]) => (right - x) * (bottom - y);
  const width = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const height = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  return (width * height) / Math.max(area(a) + area(b) - width * height, 1e-6);
}

// ---- boxes on the picture ----------------------------------------------------------------------

// The parser knows the name of SVG, so no address stands on the page.
const SVG = new DOMParser().parseFromString("<svg></svg>", "text/html").querySelector("svg").namespaceURI;

function makeShape(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// A box as two lines, a broad one to stand out from any picture and its own above it.
function makeBox(ownClass) {
  const lines = ["halo", "line"].map((part) => makeShape("rect", { class: `${part} ${ownClass}` }));
  return {
    lines,
    set([x, y, right, bottom]) {
      const place = { x, y, width: Math.max(0, right - x), height: Math.max(0, bottom - y) };
      for (const rect of lines) for (const [name, value] of Object.entries(place)) rect.setAttribute(name, value);
    },
  };
}

function makeObjects({ objects, classes, size: [width, height] }) {
  const { values, shape } = objects ? decode(objects.boxes) : { values: [], shape: [0] };
  const boxes = Array.from({ length: shape[0] }, (_, n) => values.subarray(4 * n, 4 * n + 4));
  const shapes = boxes.map((box) => {
    const shape = makeBox("object");
    shape.set(box);
    return shape;
  });
  const names = boxes.map(([x, y], n) => make("span", {
    class: "object-name", style: `left: ${(100 * clamp(x, 0, width)) / width}%; top: ${(100 * clamp(y, 0, height)) / height}%`,
  }, classes[objects.labels[n]]));
  return { lines: shapes.flatMap((shape) => shape.lines), names };
}

// ---- the location in numbers -------------------------------------------------------------------

function makeReadout({ models }) {
  const students = models.slice(1);
  const place = make("h4");
  const value = make("p", { class: "value", "aria-live": "polite" });
  const rows = make("tbody");
  const facts = make("tbody");
  const heads = () => models.map((name, n) => make("th", { scope: "col", class: `model-${n}` },
    make("span", { class: "key" }), make("span", {}, name)));
  const score = (scores, name, n) => make("td", {
    class: `score model-${n}`, style: `--share: ${100 * scores[name]}%` }, fixed(scores[name], 3));
  const fact = (title, texts) => make("tr", {},
    make("th", { scope: "row" }, title), ...texts.map((text) => make("td", {}, text)));
  const tables = make("div", { class: "tables" },
    make("table", { class: "classes" },
      make("caption", {}, "top classes: scores in both protocols"),
      make("thead", {},
        make("tr", { class: "protocols" }, make("td"), ...["sigmoid", "softmax (T = 1)"].map((protocol) =>
          make("th", { scope: "colgroup", colspan: models.length }, protocol))),
        make("tr", {}, make("th", { scope: "col" }, "class"), ...heads(), ...heads())),
      rows),
    make("table", { class: "facts" },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "at this location"), ...heads())),
      facts));
  return {
    element: make("div", { class: "panel readout" }, place, value, tables),
    draw(shown, pinned, title) {
      tables.hidden = !shown;
      place.textContent = shown ? `Stride ${shown.stride}, row ${shown.row}, column ${shown.column}` : "No location yet";
      value.textContent = shown
        ? `${title}: ${fixed(shown.value, 3)}${pinned ? " (pinned; Escape or a second click lets go)" : ""}`
        : "Point at the map, or focus it and use the arrow keys; a click or Enter pins the location.";
      if (!shown) return;
      rows.replaceChildren(...shown.classes.map(({ name, sigmoid: own, softmax: shared }) => make("tr", {},
        make("th", { scope: "row" }, name),
        ...models.map((model, n) => score(own, model, n)), ...models.map((model, n) => score(shared, model, n)))));
      facts.replaceChildren(
        fact("mean of the logits", models.map((name) => fixed(shown.mean_logit[name], 2))),
        fact("IoU with the teacher\u2019s box", ["", ...students.map((name) => fixed(shown.iou[name], 3))]),
        fact("weight of L_loc", ["", ...students.map((name) => fixed(shown.weight[name], 3))]));
    },
  };
}

// ---- the explorer --------------------------------------------------------------------------------

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function viewsOf([teacher, ...students]) {
  return [
    [["score", teacher], `${teacher}: score`],
    ...students.map((name) => [["score", name], `${name}: score`]),
    ...students.map((name) => [["difference", name], `|${teacher} \u2212 ${name}|`]),
    ...students.map((name) => [["weight", name], `weight of L_loc, ${name}`]),
  ];
}

function render({ model, el }) {
  const data = model.get("data");
  const [width, height] = data.size;
  const finest = data.levels[0][0];
  const numbers = makeNumbers(data);
  const change = stateChanger(model);
  const read = () => model.get("state");
  const locate = ({ speakers }, [x, y]) =>
    speakers[Math.floor(y / finest) * data.levels[0][2] + Math.floor(x / finest)];
  const describe = (state) => {
    if (state.point === null) return null;
    const map = numbers.map(state);
    const location = locate(map, state.point);
    return numbers.describe(location, map.values[location]);
  };
  const edit = (patch) => change({ ...patch, shown: describe({ ...read(), ...patch }) });

  // The middle of the finest cell there, inside the picture.
  const snapped = ([x, y]) => [[x, width], [y, height]].map(([at, end]) =>
    Math.min((Math.floor(clamp(at, 0, end - 1) / finest) + 0.5) * finest, end - 0.5));
  const pointOf = (event) => {
    const frame = stage.element.getBoundingClientRect();
    return snapped([((event.clientX - frame.left) * width) / frame.width, ((event.clientY - frame.top) * height) / frame.height]);
  };
  const same = (a, b) => a !== null && a[0] === b[0] && a[1] === b[1];

  const objects = makeObjects(data);
  const cell = makeBox("cell");
  const centre = makeShape("circle", { class: "centre", r: 0.012 * width });
  const boxes = data.models.map((_, n) => makeBox(`model-${n}`));
  const pointed = makeShape("g", {});
  pointed.append(...cell.lines, centre, ...boxes.flatMap((box) => box.lines));
  const annotated = makeShape("g", {});
  annotated.append(...objects.lines);
  const drawing = makeShape("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  drawing.append(annotated, pointed);
  const names = make("div", { "aria-hidden": "true" }, ...objects.names);

  const stage = makeMapStage(data, {
    tabindex: "0", role: "application", "aria-label": "Score map; arrow keys move over its locations, Enter pins one",
    onpointermove(event) {
      const { pinned, point } = read();
      const next = pointOf(event);
      if (event.pointerType !== "touch" && !pinned && !same(point, next)) edit({ point: next });
    },
    onclick(event) {
      const { pinned, shown } = read();
      const point = pointOf(event);
      const again = pinned && shown.location === locate(numbers.map(read()), point);
      edit({ point, pinned: !again });
    },
    onkeydown(event) {
      const { stride, point, pinned } = read();
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      if (event.key in MOVES) {
        const [x, y] = MOVES[event.key].map((by) => by * (stride ?? finest));
        edit({ point: snapped(point ? [point[0] + x, point[1] + y] : [width / 2, height / 2]) });
      } else if (["Enter", " "].includes(event.key) && point) edit({ pinned: !pinned });
      else if (event.key === "Escape") edit({ pinned: false });
      else return;
      event.preventDefault();
    },
  }, drawing, names);

  const views = viewsOf(data.models);
  const what = makeSelect({
    label: "map", options: views.map(([, text], n) => [n, text]),
    onChange: (n) => edit({ kind: views[n][0][0], model: views[n][0][1] }),
  });
  const protocol = makeRadios({
    label: "protocol", options: [["sigmoid", "sigmoid"], ["softmax", "softmax (T = 1)"]],
    onChange: (value) => edit({ protocol: value }),
  });
  const { classOf, level, opacity } = makeMapControls(data, edit);
  const truth = makeCheckbox({ label: "ground truth", onChange: (checked) => edit({ ground_truth: checked }) });
  truth.element.hidden = !data.objects;
  const bar = makeColourBar();
  const readout = makeReadout(data);

  makeRoot(el, "bckd-score-maps", "Score maps",
    make("h3", {}, "Score maps: what each detector says, location by location"),
    make("div", { class: "row" }, what.element, protocol.element, classOf.element, level.element, opacity.element, truth.element),
    make("div", { class: "panels" },
      make("div", {}, stage.element, bar.element,
        make("div", { class: "legend small" }, ...data.models.map((name, n) =>
          make("span", { class: `model-${n}` }, make("span", { class: "key" }), `${name}\u2019s box`)),
        make("span", {}, make("span", { class: "key cell-key" }), "cell and point of the location"))),
      readout.element));

  let painted = null;
  function draw() {
    const state = read();
    const shown = describe(state);
    if (JSON.stringify(shown) !== JSON.stringify(state.shown)) { // the other side changed settings alone
      change({ shown });
      return; // the change draws
    }
    const map = numbers.map(state);
    const scale = state.kind === "score" ? "viridis" : "magma";
    if (painted !== map.key) stage.paint(map.values, map.speakers, scale);
    painted = map.key;
    stage.setOpacity(state.opacity);

    const view = views.findIndex(([[kind, name]]) => kind === state.kind && name === state.model);
    const weight = state.kind === "weight";
    what.set(view);
    protocol.set(state.protocol);
    protocol.element.disabled = weight;
    classOf.set(state.class_name);
    classOf.select.disabled = weight;
    level.set(state.stride);
    opacity.set(state.opacity);
    truth.set(state.ground_truth);
    const which = weight
      ? "sigmoid, largest gap of all classes" : `${state.protocol}, ${state.class_name ?? "highest of all classes"}`;
    const title = `${views[view][1]} (${which})`;
    bar.set(scale, title);

    annotated.style.display = names.style.display = state.ground_truth ? "" : "none";
    pointed.style.display = shown ? "" : "none";
    pointed.classList.toggle("pinned", state.pinned);
    if (shown) {
      const { stride, row, column } = shown;
      cell.set([column * stride, row * stride, (column + 1) * stride, (row + 1) * stride]);
      centre.setAttribute("cx", shown.centre[0]);
      centre.setAttribute("cy", shown.centre[1]);
      boxes.forEach((box, n) => box.set(shown.boxes[data.models[n]]));
    }
    readout.draw(shown, state.pinned, title);
  }

  model.on("change:state", draw);
  draw();
  return () => model.off("change:state", draw);
}
