// Score maps: what teacher and students say at every location of a picture, as maps beside it with
// one cross-hair, and what both losses make of its cell.

// ---- numbers, as in bckd/viz/picture_outputs.py ------------------------------------------------

// Half precision from its bits; Python sends neither infinity nor nan.
const halves = (packed) => Float32Array.from(decode(packed).values, (bits) => {
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  const size = exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14;
  return bits & 0x8000 ? -size : size;
});

// Every result of `compute`, kept by its arguments.
function remembered(compute) {
  const known = new Map();
  return (...given) => {
    const key = JSON.stringify(given);
    if (!known.has(key)) known.set(key, compute(...given));
    return known.get(key);
  };
}

const rounded = (value) => Number(value.toFixed(6));
const PROTOCOLS = ["sigmoid", "softmax"];

function makeNumbers(data) {
  const { models, classes, levels, top, temperature } = data;
  const [teacher, ...students] = models;
  const byModel = (packed, read) => Object.fromEntries(models.map((name, n) => [name, read(packed[n])]));
  const logits = byModel(data.logits, halves);
  const boxes = byModel(data.boxes, (packed) => decode(packed).values);
  const centres = decode(data.centres).values;
  const stack = decode(data.stack);
  const count = classes.length;
  const locations = Array.from({ length: centres.length / 2 }, (_, n) => n);
  const ofLocation = (values, location, width) => Array.from(values.subarray(location * width, (location + 1) * width));
  const logitsAt = (name, location) => ofLocation(logits[name], location, count);

  const scoresAt = (name, protocol, location) =>
    (protocol === "sigmoid" ? logitsAt(name, location).map(sigmoid) : softmax(logitsAt(name, location)));
  // L_cls goes with sigmoid, softmax distillation with softmax; neither is weighted or divided.
  const gradientAt = (name, protocol, location) => (protocol === "sigmoid"
    ? binaryGradient(logitsAt(teacher, location), logitsAt(name, location), false)
    : softmaxGradient(logitsAt(teacher, location), logitsAt(name, location), temperature));
  const lossAt = (name, protocol, location) => (protocol === "sigmoid"
    ? binaryLoss(logitsAt(teacher, location), logitsAt(name, location))
    : softmaxLoss(logitsAt(teacher, location), logitsAt(name, location), temperature));

  // All classes of all locations; then the map of one class, or of all.
  const read = { score: scoresAt, pull: gradientAt, difference: (name, protocol, location) => {
    const theirs = scoresAt(teacher, protocol, location);
    return scoresAt(name, protocol, location).map((score, k) => score - theirs[k]);
  } };
  const sizesOf = remembered((kind, name, protocol) =>
    locations.map((location) => read[kind](name, protocol, location).map(Math.abs)));
  const mapOf = remembered((kind, name, protocol, label) => sizesOf(kind, name, protocol).map((sizes) => {
    if (label !== null) return sizes[label];
    return kind === "pull" ? sum(sizes) : Math.max(...sizes);
  }));
  const speakersFor = remembered((kind, name, protocol, label, level) =>
    speakersOf(mapOf(kind, name, protocol, label), stack, level));
  // The value of the last colour: the students' highest, of a difference under either protocol.
  const reachOf = remembered((kind, protocol, label) => {
    if (kind === "score") return 1;
    const shown = kind === "pull" ? [protocol] : PROTOCOLS;
    const maps = students.flatMap((name) => shown.map((each) => mapOf(kind, name, each, label)));
    return maps.flat().reduce((top, value) => Math.max(top, value), 1e-9); // too many for arguments
  });

  const labelOf = (className) => (className === null ? null : classes.indexOf(className));
  const placeOf = (stride) => (stride === null ? null : levels.findIndex(([each]) => each === stride));
  function cellOf(location) {
    let level = 0;
    while (location >= levels[level][1] * levels[level][2]) location -= levels[level][1] * levels[level++][2];
    const [stride, , columns] = levels[level];
    return [stride, Math.floor(location / columns), location % columns];
  }
  function locationOf([stride, row, column]) {
    const level = placeOf(stride);
    return sum(levels.slice(0, level).map(([, rows, columns]) => rows * columns)) + row * levels[level][2] + column;
  }
  return {
    cellOf, locationOf,
    // The class that a detector puts first at a location, of one class that class.
    best(name, protocol, location, className = null) {
      const scores = scoresAt(name, protocol, location);
      const label = labelOf(className) ?? scores.indexOf(Math.max(...scores));
      return { name: classes[label], score: scores[label] };
    },
    // A detector's map under the settings; the teacher has only scores.
    map({ kind, protocol, class_name: className, stride }, name) {
      const own = name === teacher ? "score" : kind;
      const view = [own, name, protocol, labelOf(className)];
      return { values: mapOf(...view), speakers: speakersFor(...view, placeOf(stride)), reach: reachOf(own, protocol, labelOf(className)) };
    },
    // How much of a loss's pull lies where the teacher sees next to nothing.
    shareOfBackground(name, protocol) {
      const pull = mapOf("pull", name, protocol, null);
      const seen = mapOf("score", teacher, "sigmoid", null);
      return sum(pull.filter((_, n) => seen[n] < data.little)) / sum(pull);
    },
    // What `location_values` of score_maps.py says.
    describe(location) {
      const forEach = (names, value) => Object.fromEntries(names.map((name) => [name, rounded(value(name))]));
      const highest = classes.map((_, k) => Math.max(...models.map((name) => scoresAt(name, "sigmoid", location)[k])));
      const best = classes.map((_, k) => k).sort((a, b) => highest[b] - highest[a]).slice(0, top);
      const boxOf = (name) => ofLocation(boxes[name], location, 4);
      const gradient = (protocol, value) => forEach(students, (name) => value(gradientAt(name, protocol, location)));
      return {
        location,
        centre: ofLocation(centres, location, 2),
        classes: best.map((k) => ({
          name: classes[k],
          sigmoid: forEach(models, (name) => scoresAt(name, "sigmoid", location)[k]),
          softmax: forEach(models, (name) => scoresAt(name, "softmax", location)[k]),
          binary_gradient: gradient("sigmoid", (values) => values[k]),
          softmax_gradient: gradient("softmax", (values) => values[k]),
        })),
        boxes: Object.fromEntries(models.map((name) => [name, boxOf(name).map(rounded)])),
        mean_logit: forEach(models, (name) => sum(logitsAt(name, location)) / count),
        iou: forEach(students, (name) => iou(boxOf(name), boxOf(teacher))),
        binary_loss: forEach(students, (name) => lossAt(name, "sigmoid", location)),
        binary_sum: gradient("sigmoid", sum),
        softmax_loss: forEach(students, (name) => lossAt(name, "softmax", location)),
        softmax_sum: gradient("softmax", sum),
      };
    },
  };
}

// ---- guided steps: settings, and a sentence of the numbers there --------------------------------

const LOSSES = { sigmoid: "L_cls", softmax: "softmax KD" };
const percent = (share) => `${Math.round(100 * share)} %`;

function makeSteps({ models, classes, cells, little }, numbers) {
  const [teacher, ...students] = models;
  const all = { class_name: null, stride: null };
  const at = (place) => numbers.locationOf(cells[place]);
  const each = (names, text) => names.map((name) => `${name} ${text(name)}`).join(", ");
  const best = (protocol, place) => (name) => {
    const { name: top, score } = numbers.best(name, protocol, at(place));
    return `${fixed(score, 2)} (${top})`;
  };
  const gap = (name) => {
    const { values } = numbers.map({ kind: "difference", protocol: "sigmoid", class_name: null, stride: null }, name);
    return fixed(values[at("haze")], 2);
  };
  return {
    background: {
      text: "1 a background cell", state: { ...all, kind: "score", protocol: "sigmoid", cell: cells.background },
      get reading() {
        return `Nobody sees an object in this cell. The highest of ${classes.length} scores: ` +
          `${each(models, best("sigmoid", "background"))}. What does softmax say here? Press S, or step 2.`;
      },
    },
    softmax: {
      text: "2 what softmax says", state: { ...all, kind: "score", protocol: "softmax", cell: cells.background },
      get reading() {
        return `The same cell, the same logits: ${each(models, best("softmax", "background"))}. ` +
          `A softmax must spread a whole 1 over ${classes.length} classes, and has no way to say \u201cnothing\u201d.`;
      },
    },
    object: {
      text: "3 an object", state: { ...all, kind: "score", protocol: "sigmoid", cell: cells.object },
      get reading() {
        return `Where the teacher is surest: ${each(models, best("sigmoid", "object"))}. As softmax, the teacher ` +
          `${best("softmax", "object")(teacher)}. Flip with S: what changes most is the background, not the object.`;
      },
    },
    haze: {
      text: "4 the haze", state: { ...all, kind: "difference", protocol: "sigmoid", cell: cells.haze },
      get reading() {
        return `Differences to the teacher. Here it says ${best("sigmoid", "haze")(teacher)} at most; ` +
          `the largest gaps are ${each(students, gap)}. Dark is near the teacher.`;
      },
    },
    pull: {
      text: "5 where a loss pulls", state: { ...all, kind: "pull", protocol: "softmax", cell: cells.background },
      get reading() {
        const share = (protocol) => each(students, (name) => percent(numbers.shareOfBackground(name, protocol)));
        return `Where training would move each student. Of softmax distillation\u2019s pull, ${share("softmax")} lies where ` +
          `the teacher\u2019s scores are all below ${little}; of L_cls\u2019s (press S), ${share("sigmoid")}.`;
      },
    },
  };
}
const FLIPPED = { background: "softmax", softmax: "background" }; // the steps of one cell in both protocols

// ---- one panel: the picture or a map, with the cross-hair -----------------------------------------

function makeCrossHair({ size: [width, height] }) {
  const cell = makeBox("cell");
  const ruler = () => ["halo", "line"].map((part) => makeShape("path", { class: `${part} ruler` }));
  const rulers = ruler();
  return {
    shapes: [...rulers, ...cell.lines],
    set([stride, row, column]) {
      const [x, y] = [column * stride, row * stride];
      cell.set([x, y, x + stride, y + stride]);
      const [middle, centre] = [x + stride / 2, y + stride / 2];
      const path = `M0 ${centre}H${x} M${x + stride} ${centre}H${width} M${middle} 0V${y} M${middle} ${y + stride}V${height}`;
      for (const each of rulers) each.setAttribute("d", path);
    },
  };
}

function makeObjects({ objects, classes, size: [width, height] }) {
  const { values, shape } = objects ? decode(objects.boxes) : { values: [], shape: [0] };
  const boxes = Array.from({ length: shape[0] }, (_, n) => values.subarray(4 * n, 4 * n + 4));
  return {
    outlines: () => makeShape("g", { class: "objects" }, ...boxes.flatMap((box) => makeBox("object", box).lines)),
    names: boxes.map(([x, y], n) => make("span", {
      class: "object-name", style: `left: ${(100 * clamp(x, 0, width)) / width}%; top: ${(100 * clamp(y, 0, height)) / height}%`,
    }, classes[objects.labels[n]])),
  };
}

// ---- the cell in numbers ---------------------------------------------------------------------------

// A part of a row's width, in the colour of its role or its loss.
const bar = (share) => `--share: ${Math.round(100 * clamp(share, 0, 1))}%`;

function makeScores({ models, roles }) {
  const caption = make("caption");
  const rows = make("tbody");
  const heads = models.map((name, n) => make("th", { scope: "col", class: `role-${roles[n]}` },
    make("span", { class: "role-key" }), make("span", {}, name)));
  const fact = (title, texts) => make("tr", { class: "fact" },
    make("th", { scope: "row" }, title), ...texts.map((text) => make("td", {}, text)));
  return {
    element: make("table", { class: "scores" }, caption, make("thead", {}, make("tr", {}, make("td"), ...heads)), rows),
    draw(shown, protocol) {
      caption.textContent = `What each says in this cell: ${protocol} scores`;
      rows.replaceChildren(
        ...shown.classes.map((each) => make("tr", {}, make("th", { scope: "row" }, each.name),
          ...models.map((model, n) => make("td", { class: `share role-${roles[n]}`, style: bar(each[protocol][model]) },
            fixed(each[protocol][model], 3))))),
        fact("mean of the logits", models.map((name) => fixed(shown.mean_logit[name], 2))),
        fact("IoU with the teacher\u2019s box", models.map((name) => (name in shown.iou ? fixed(shown.iou[name], 2) : ""))));
    },
  };
}

// The way of a training step, against the gradient: an arrow and its size.
function pullCell(gradient, reach, key) {
  const still = Math.abs(gradient) < 5e-4;
  const way = still ? "stays" : gradient > 0 ? "goes down" : "goes up";
  const arrow = make("span", { role: "img", "aria-label": way }, still ? "\u00b7" : gradient > 0 ? "\u2193" : "\u2191");
  return make("td", { class: `share ${key}`, style: bar(Math.abs(gradient) / reach) }, arrow, ` ${fixed(Math.abs(gradient), 3)}`);
}

function makePulls({ models, roles }) {
  const students = models.slice(1);
  const keys = ["softmax", "binary"];
  const rows = make("tbody");
  const names = students.map((name, n) => make("th", { scope: "colgroup", colspan: 2, class: `role-${roles[n + 1]}` },
    make("span", { class: "role-key" }), name));
  const losses = students.flatMap(() => ["softmax KD", "L_cls"].map((text, n) => make("th", { scope: "col", class: keys[n] }, text)));
  const row = (title, ownClass, cell) => make("tr", { class: ownClass }, make("th", { scope: "row" }, title),
    ...students.flatMap((name) => keys.map((key) => cell(name, key))));
  return {
    element: make("table", { class: "pulls" },
      make("caption", {}, "What each loss makes of it: where a step would move each logit"),
      make("thead", {}, make("tr", {}, make("td"), ...names), make("tr", {}, make("td"), ...losses)), rows),
    draw(shown) {
      const gradients = shown.classes.flatMap((each) => keys.flatMap((key) => Object.values(each[`${key}_gradient`])));
      const reach = Math.max(0.02, ...gradients.map(Math.abs));
      rows.replaceChildren(
        row("loss", "fact", (name, key) => make("td", {}, fixed(shown[`${key}_loss`][name], 3))),
        ...shown.classes.map((each) => row(each.name, "", (name, key) => pullCell(each[`${key}_gradient`][name], reach, key))),
        row("sum, all classes", "fact", (name, key) => pullCell(shown[`${key}_sum`][name], Infinity, "")));
    },
  };
}

// ---- the explorer --------------------------------------------------------------------------------

const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
const KINDS = { score: "scores", difference: "differences to the teacher", pull: "the pull of a loss" };

function render({ model, el }) {
  const data = model.get("data");
  const { models, roles, levels, size: [width, height] } = data;
  const numbers = makeNumbers(data);
  const steps = makeSteps(data, numbers);
  const change = stateChanger(model);
  const read = () => model.get("state");
  const settle = (patch) => change({ ...patch, shown: numbers.describe(numbers.locationOf({ ...read(), ...patch }.cell)) });
  // A change by hand leaves the guided step.
  const edit = (patch) => settle({ ...patch, preset: "" });
  const guideTo = (key) => settle({ ...steps[key].state, preset: key });
  const flip = () => {
    const { protocol, preset } = read();
    if (preset in FLIPPED) guideTo(FLIPPED[preset]);
    else settle({ protocol: PROTOCOLS[1 - PROTOCOLS.indexOf(protocol)], preset: preset === "pull" ? "pull" : "" });
  };

  // The cell under the pointer: of the chosen level, else of the one that speaks in that map.
  function cellUnder(event, name) {
    const frame = event.currentTarget.getBoundingClientRect();
    const [x, y] = [
      clamp(((event.clientX - frame.left) * width) / frame.width, 0, width - 0.5),
      clamp(((event.clientY - frame.top) * height) / frame.height, 0, height - 0.5)];
    const [finest, , columns] = levels[0];
    const { speakers } = numbers.map(read(), name);
    return numbers.cellOf(speakers[Math.floor(y / finest) * columns + Math.floor(x / finest)]);
  }
  const pointing = (name) => {
    const take = (event) => edit({ cell: cellUnder(event, name) });
    return {
      onpointerdown(event) {
        if (event.pointerType === "touch" || event.button) return; // a finger may want to scroll; its tap clicks
        event.currentTarget.setPointerCapture(event.pointerId);
        take(event);
      },
      onpointermove(event) { if (event.currentTarget.hasPointerCapture(event.pointerId)) take(event); },
      onclick: take,
    };
  };
  const listen = ({ element }, name) => {
    for (const [event, react] of Object.entries(pointing(name))) element.addEventListener(event.slice(2), react);
  };

  const objects = makeObjects(data);
  const boxes = models.map((_, n) => makeBox(`role-${roles[n]}`));
  const hairs = [makeCrossHair(data)];
  const picture = makePicture(data,
    makeDrawing(data, objects.outlines(), ...hairs[0].shapes, ...boxes.flatMap((box) => box.lines)),
    make("div", { class: "objects", "aria-hidden": "true" }, ...objects.names));
  listen(picture, models[0]);
  const panels = models.map((name, n) => {
    const hair = makeCrossHair(data);
    hairs.push(hair);
    const map = makeMap(data, makeDrawing(data, objects.outlines(), ...hair.shapes));
    listen(map, name);
    const what = make("span", { class: "small quiet" });
    const head = make("div", { class: `head role-${roles[n]}` }, make("span", { class: "role-key" }), make("b", {}, name), " ", what);
    return { name, map, what, element: make("div", { class: "map" }, head, map.element) };
  });

  const guide = makeGuide(steps, {
    label: "guided steps", onStep: guideTo,
    invitation: "Press or drag on any map to move the cross-hair, or use the arrow keys; it stays in its cell whatever else you change.",
  });
  const word = (text, patch) => ({ patch, element: makeWord(text, () => edit(patch)) });
  const words = {
    protocols: PROTOCOLS.map((name) => word(name, { protocol: name })),
    kinds: Object.entries(KINDS).map(([kind, text]) => word(text, { kind })),
    cells: [["a background cell", "background"], ["an object", "object"], ["the haze", "haze"]]
      .map(([text, place]) => word(text, { cell: data.cells[place] })),
  };
  const [sigmoidWord, softmaxWord] = words.protocols.map(({ element }) => element);
  const [scoreWord, differenceWord, pullWord] = words.kinds.map(({ element }) => element);
  const [backgroundWord, objectWord, hazeWord] = words.cells.map(({ element }) => element);
  const sentence = make("p", {}, "Read the logits as ", sigmoidWord, " or as ", softmaxWord,
    ". Show ", scoreWord, ", ", differenceWord, " or ", pullWord,
    ". Go to ", backgroundWord, ", ", objectWord, " or ", hazeWord, ".");

  const flipper = makeButton("", flip, { class: "flip", "aria-keyshortcuts": "s" });
  const { classOf, level } = makeMapControls(data, (patch) => {
    // The cross-hair goes along to a chosen level.
    const [stride, row, column] = read().cell;
    const to = patch.stride ?? stride;
    const move = (at) => Math.floor(((at + 0.5) * stride) / to);
    edit({ ...patch, cell: [to, move(row), move(column)] });
  });
  const truth = makeCheckbox({ label: "annotated boxes", onChange: (checked) => edit({ ground_truth: checked }) });
  truth.element.hidden = !data.objects;
  const place = make("span", { class: "place" });
  const values = models.map((name, n) => ({ name, score: make("b"), top: make("span", { class: "top" }), key: make("span", { class: `role-key role-${roles[n]}` }) }));
  const line = make("div", { class: "sticky", "aria-live": "polite" }, place,
    make("div", { class: "values" }, ...values.map(({ name, score, top, key }) => make("span", {}, key, `${name} `, score, " ", top))));
  const colours = { score: makeColourBar(), student: makeColourBar() };
  const scores = makeScores(data);
  const pulls = makePulls(data);

  const stage = make("div", {
    class: "stage", tabindex: "0", role: "application", style: `--columns: ${models.length + 1}`,
    "aria-label": "Maps of all detectors; arrow keys move the cross-hair from cell to cell, S flips sigmoid and softmax",
    onkeydown(event) {
      if (event.ctrlKey || event.altKey || event.metaKey || !(event.key in MOVES)) return;
      const [stride, row, column] = read().cell;
      const [, rows, columns] = levels.find(([each]) => each === stride);
      const [down, right] = MOVES[event.key];
      edit({ cell: [stride, clamp(row + down, 0, rows - 1), clamp(column + right, 0, columns - 1)] });
      event.preventDefault();
    },
  }, make("div", { class: "map" }, make("div", { class: "head" }, make("b", {}, "picture"), " ",
    make("span", { class: "small quiet" }, "each one\u2019s box")), picture.element), ...panels.map(({ element }) => element),
  make("div", { class: "bars" }, colours.score.element, colours.student.element));
  const root = makeRoot(el, "bckd-score-maps", "Score maps",
    make("h3", {}, `Score maps: ${models.length} detectors, one cell`),
    guide.buttons, guide.reading, sentence, line,
    make("div", { class: "row" }, flipper, classOf.element, level.element, truth.element),
    stage,
    make("div", { class: "panels" }, make("div", { class: "panel" }, scores.element), make("div", { class: "panel" }, pulls.element)),
    make("p", { class: "quiet small" }, `Losses of this cell alone, unweighted; softmax distillation (KD) at T = ${data.temperature}. ` +
      "A map shows the highest of its levels unless you choose one; the cross-hair is one level\u2019s cell."));
  root.addEventListener("keydown", ({ key, target, ctrlKey, altKey, metaKey }) => {
    if (key.toLowerCase() === "s" && !ctrlKey && !altKey && !metaKey && target.tagName !== "SELECT") flip();
  });

  function draw() {
    const state = read();
    const { kind, protocol, class_name: className, cell } = state;
    const location = numbers.locationOf(cell);
    const shown = numbers.describe(location);
    if (JSON.stringify(shown) !== JSON.stringify(state.shown)) { // the other side changed settings alone
      change({ shown });
      return; // the change draws
    }
    const which = className ?? "all classes";
    const drawn = panels.map(({ name, map, what }, n) => {
      const { values: found, speakers, reach } = numbers.map(state, name);
      const score = kind === "score" || n === 0;
      map.paint(found, speakers, score ? "viridis" : "magma", reach);
      what.textContent = score ? protocol : kind === "difference" ? "|p_t \u2212 p_s|" : `pull of ${LOSSES[protocol]}`;
      return reach;
    });
    colours.score.set("viridis", `${protocol} score, ${className ?? "highest of all classes"}`, 1);
    colours.student.element.hidden = kind === "score";
    colours.student.set("magma", kind === "pull" ? `size of the gradient of ${LOSSES[protocol]}, ${which}`
      : `difference of ${protocol} scores, ${className ?? "largest of all classes"}`, drawn[drawn.length - 1]);

    guide.set(state.preset);
    for (const { patch, element } of Object.values(words).flat()) {
      const [[key, value]] = Object.entries(patch);
      element.setAttribute("aria-pressed", String(JSON.stringify(state[key]) === JSON.stringify(value)));
    }
    flipper.textContent = `flip to ${PROTOCOLS[1 - PROTOCOLS.indexOf(protocol)]} (S)`;
    classOf.set(className);
    level.set(state.stride);
    truth.set(state.ground_truth);
    root.classList.toggle("no-objects", !state.ground_truth);

    const [stride, row, column] = cell;
    place.textContent = `${protocol} at stride ${stride}, row ${row}, column ${column}`;
    for (const { name, score, top } of values) {
      const best = numbers.best(name, protocol, location, className);
      score.textContent = fixed(best.score, 2);
      top.textContent = best.name;
    }
    for (const hair of hairs) hair.set(cell);
    boxes.forEach((box, n) => box.set(shown.boxes[models[n]]));
    scores.draw(shown, protocol);
    pulls.draw(shown);
  }

  model.on("change:state", draw);
  draw();
  return () => model.off("change:state", draw);
}
