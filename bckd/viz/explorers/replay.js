// Training replay: a teacher's map and boxes beside those of its students, all after the same steps,
// above the runs' curves.

const UNITS = 65535; // of a score in the data
const PAUSE = 700; // milliseconds between two frames
const OVERLAP = 0.5; // IoU from which a box is one of an object
const REACH = 0.5; // score of the last colour: early maps are faint

// ---- numbers, as in bckd/viz/replay_frames.py --------------------------------------------------

function makeNumbers(data) {
  const { models, classes, levels, steps } = data;
  const [teacher] = models;
  const byModel = (packed, read) => Object.fromEntries(models.map((name, n) => [name, read(packed[n])]));
  const scores = byModel(data.scores, (packed) => decode(packed).values);
  const stack = decode(data.stack);
  const rowsOf = (packed, width) => {
    const { values } = decode(packed);
    return Array.from({ length: values.length / width }, (_, n) => Array.from(values.subarray(n * width, (n + 1) * width)));
  };
  const objects = { boxes: rowsOf(data.objects.boxes, 4), labels: data.objects.labels };
  // A detection with what it is to the objects: its box on one, and its name right.
  const detections = byModel(data.detections, (frames) => frames.map(({ boxes, scores: own, labels }) => {
    const named = Array.from(decode(labels).values);
    const certain = Array.from(decode(own).values);
    return rowsOf(boxes, 4).map((box, n) => {
      const met = objects.boxes.map((each) => iou(box, each) >= OVERLAP);
      const right = met.map((meets, k) => meets && objects.labels[k] === named[n]);
      return { box, score: certain[n], name: classes[named[n]], met, right };
    });
  }));
  const curves = data.curves.map(({ title, lines }) => ({
    title, lines: Object.fromEntries(Object.entries(lines).map(([name, packed]) => [name, rowsOf(packed, 2)])),
  }));
  const locations = sum(levels.map(([, rows, columns]) => rows * columns));
  const frameOf = (name, step) => (name === teacher ? 0 : steps.indexOf(step));
  const scoresOf = (name, step) => {
    const size = locations * classes.length;
    return scores[name].subarray(frameOf(name, step) * size, (frameOf(name, step) + 1) * size);
  };
  const over = (name, { step, threshold }) => detections[name][frameOf(name, step)].filter(({ score }) => score >= threshold);
  return {
    curves, over,
    // A detector's map under the settings; the teacher has only scores.
    map({ kind, step, class_name: className, stride }, name) {
      const label = className === null ? null : classes.indexOf(className);
      const own = scoresOf(name, step);
      const theirs = kind === "difference" && name !== teacher ? scoresOf(teacher, step) : null;
      const values = new Float64Array(locations);
      for (let n = 0; n < locations; n++) {
        for (let k = label ?? 0; k <= (label ?? classes.length - 1); k++) {
          const at = n * classes.length + k;
          values[n] = Math.max(values[n], (theirs ? Math.abs(own[at] - theirs[at]) : own[at]) / UNITS);
        }
      }
      const level = stride === null ? null : levels.findIndex(([each]) => each === stride);
      return { values, speakers: speakersOf(values, stack, level) };
    },
    count: objects.boxes.length,
    objects,
    describe(state) {
      const detectors = models.map((name) => {
        const kept = over(name, state);
        const some = (key) => objects.boxes.filter((_, k) => kept.some((one) => one[key][k])).length;
        const highest = scoresOf(name, state.step).reduce((top, value) => Math.max(top, value), 0) / UNITS;
        return [name, { objects: some("met"), named: some("right"), highest: Number(highest.toFixed(4)) }];
      });
      const at = (lines) => Object.fromEntries(Object.entries(lines).map(([name, points]) => [name, valueAt(points, state.step)]));
      return { detectors: Object.fromEntries(detectors), curves: Object.fromEntries(curves.map(({ title, lines }) => [title, at(lines)])) };
    },
  };
}

// Where the line through the points stands at a step; null before its first point.
function valueAt(points, step) {
  const next = points.findIndex(([at]) => at > step);
  if (next === 0) return null;
  if (next < 0) return points[points.length - 1][1];
  const [[from, low], [to, high]] = [points[next - 1], points[next]];
  return low + ((high - low) * (step - from)) / (to - from);
}

// ---- one detector: its map, and its boxes on the picture -----------------------------------------

function makeColumn(data, name, role, objects) {
  const what = make("span", { class: "small quiet" });
  const boxes = makeShape("g", {});
  const tags = make("div", { "aria-hidden": "true" });
  const outlines = () => objects.boxes.flatMap((box) => makeBox("object", box).lines);
  const map = makeMap(data, makeDrawing(data, ...outlines()));
  const picture = makePicture(data, makeDrawing(data, ...outlines(), boxes), tags);
  const verdict = make("p", { class: "verdict small" });
  const [width, height] = data.size;
  return {
    name, map, what, verdict,
    element: make("div", { class: `column role-${role}` },
      make("div", { class: "head" }, make("span", { class: "role-key" }), make("b", {}, name), " ", what),
      map.element, picture.element, verdict),
    // Right ones whole and with a tick, those with a wrong name dashed, those on no object dotted.
    drawBoxes(found) {
      const detections = [...found].reverse(); // the surest on top
      const kindOf = ({ met, right }) => (right.some(Boolean) ? "right" : met.some(Boolean) ? "wrong" : "stray");
      const marks = { right: "\u2713", wrong: "\u2717", stray: "?" };
      boxes.replaceChildren(...detections.flatMap((each) => makeBox(`detection ${kindOf(each)}`, each.box).lines));
      tags.replaceChildren(...detections.map((each) => make("span", {
        class: `tag ${kindOf(each)}`,
        style: `left: ${(100 * clamp(each.box[0], 0, width - 1)) / width}%; top: ${(100 * clamp(each.box[1], 0, height - 8)) / height}%`,
      }, make("b", {}, marks[kindOf(each)]), make("span", {}, ` ${each.name}`))));
    },
  };
}

// ---- curves with the step marked -----------------------------------------------------------------

const HEIGHT = 160;
const DASHES = { teacher: [], labels: [8, 4], softmax: [2, 3], BCKD: [12, 3], student: [8, 4], second: [2, 3], third: [12, 3] };

// Early steps get room: the axis goes by the root of the step.
function makeChart({ title, lines }, { models, roles, steps }) {
  const canvas = make("canvas", { role: "img" });
  const shown = make("div", { class: "numbers small" });
  const names = models.filter((name) => name in lines);
  const roleOf = (name) => roles[models.indexOf(name)];
  const last = steps[steps.length - 1];
  const highest = Math.max(...names.flatMap((name) => lines[name].map(([, value]) => value)));
  const xTicks = ticks(0, Math.sqrt(last), 6).map((root) => [root, String(Math.round(root * root))]);
  return {
    element: make("div", { class: "panel chart" }, make("h4", { class: "head" }, title), shown, canvas),
    draw(root, step, values) {
      const texts = names.map((name) => [name, values[name] === null ? "none yet" : fixed(values[name], 2)]);
      shown.replaceChildren(...texts.map(([name, text]) => make("span", { class: `role-${roleOf(name)}` },
        make("span", { class: "role-key" }), make("span", {}, name), " ", make("output", {}, text))));
      canvas.setAttribute("aria-label", `${title} after ${step} steps: ${texts.map(([name, text]) => `${name} ${text}`).join(", ")}`);
      const { paddingLeft, paddingRight } = getComputedStyle(canvas.parentElement);
      const width = canvas.parentElement.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
      if (width <= 0) return;
      const context = sharpContext(canvas, width, HEIGHT);
      const box = { left: 38, top: 8, width: width - 52, height: HEIGHT - 46 };
      const { toX, toY } = drawAxes(context, root, box, { x: [0, Math.sqrt(last)], y: [0, highest], xTicks, xLabel: "step" });
      const at = toX(Math.sqrt(step));
      context.strokeStyle = cssColour(root, "--bckd-quiet");
      line(context, [[at, box.top], [at, box.top + box.height]]);
      context.lineJoin = "round";
      for (const name of names) {
        const colour = `--bckd-${{ BCKD: "binary", second: "colour-3", third: "colour-4" }[roleOf(name)] ?? roleOf(name)}`;
        context.strokeStyle = context.fillStyle = cssColour(root, colour);
        context.lineWidth = 2;
        context.setLineDash(DASHES[roleOf(name)]);
        line(context, lines[name].map(([when, value]) => [toX(Math.sqrt(when)), toY(value)]));
        context.setLineDash([]);
        if (values[name] === null) continue;
        context.beginPath();
        context.arc(at, toY(values[name]), 4, 0, 2 * Math.PI);
        context.fill();
      }
    },
  };
}

// ---- the explorer -------------------------------------------------------------------------------

const KINDS = { score: "scores", difference: "differences to the teacher" };

function render({ model, el }) {
  const data = model.get("data");
  const { steps, models, roles, phases } = data;
  const numbers = makeNumbers(data);
  const change = stateChanger(model);
  const read = () => model.get("state");
  const edit = (patch) => change({ ...patch, shown: numbers.describe({ ...read(), ...patch }) });
  const goTo = (step) => { pause(); edit({ step }); };

  const keyOf = (n) => `phase-${n}`;
  const guide = makeGuide(
    Object.fromEntries(phases.map(({ step, title, caption }, n) =>
      [keyOf(n), { text: `${n + 1} ${title}`, reading: `At step ${step}: ${caption}`, step }])),
    { label: "guided steps", invitation: "Move the slider, or press play.", onStep: (key) => goTo(phases[Number(key.slice(6))].step) });
  const phaseAt = (step) => phases.reduce((found, phase, n) => (phase.step <= step ? n : found), -1);

  const word = (text, patch) => ({ patch, element: makeWord(text, () => { pause(); edit(patch); }) });
  const kinds = Object.entries(KINDS).map(([kind, text]) => word(text, { kind }));
  const thresholds = [0.1, 0.3, 0.5].map((threshold) => word(String(threshold), { threshold }));
  const ends = [["the first step", steps[0]], ["the last", steps[steps.length - 1]]].map(([text, step]) => word(text, { step }));
  const flip = () => edit({ kind: read().kind === "score" ? "difference" : "score" });
  const sentence = make("p", {}, "Above, maps of ", kinds[0].element, " or of ", kinds[1].element, " (D flips); below, boxes over ",
    thresholds[0].element, ", ", thresholds[1].element, " or ", thresholds[2].element, ". Go to ",
    ends[0].element, " or ", ends[1].element, ".");

  const slider = makeSlider({
    label: "frame", min: 0, max: steps.length - 1, step: 1, format: (index) => `step ${steps[index]}`,
    onChange: (index) => goTo(steps[index]),
  });
  slider.element.classList.add("steps");
  const { classOf, level } = makeMapControls(data, edit);
  const threshold = makeSlider({
    label: "boxes over", min: data.lowest, max: 0.95, step: 0.05, format: (value) => fixed(value, 2),
    onChange: (value) => edit({ threshold: value }),
  });

  // Whoever asked for less motion moves on by hand.
  const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  const button = makeButton("", () => (still ? forward() : timer ? pause() : play()), { class: "play" });
  let timer = null;
  function forward() {
    const next = steps.indexOf(read().step) + 1;
    edit({ step: steps[next % steps.length] });
    if (next >= steps.length - 1) pause();
  }
  function play() {
    timer = setInterval(forward, PAUSE);
    forward();
  }
  function pause() {
    clearInterval(timer);
    timer = null;
    nameButton();
  }
  function nameButton() {
    button.textContent = still ? "next" : timer ? "pause" : "play";
  }

  const columns = models.map((name, n) => makeColumn(data, name, roles[n], numbers.objects));
  const counts = models.map((name, n) => ({ name, output: make("b"), key: make("span", { class: `role-key role-${roles[n]}` }) }));
  const readout = make("div", { class: "values", "aria-live": "polite" },
    make("span", { class: "quiet" }, `rightly named of ${numbers.count} objects:`),
    ...counts.map(({ name, output, key }) => make("span", {}, key, `${name} `, output)));
  const colours = { score: makeColourBar(), difference: makeColourBar() };
  const charts = numbers.curves.map((curve) => makeChart(curve, data));
  const root = makeRoot(el, "bckd-replay", "Training replay",
    make("h3", {}, `Training replay: ${models.length - 1} students of one teacher, after the same steps`),
    guide.buttons, guide.reading, sentence,
    make("div", { class: "sticky" }, make("div", { class: "player" }, button, slider.element), readout),
    make("div", { class: "row" }, classOf.element, level.element, threshold.element),
    make("div", { class: "columns", style: `--columns: ${models.length}` }, ...columns.map(({ element }) => element)),
    make("div", { class: "row bars" }, colours.score.element, colours.difference.element,
      make("p", { class: "small quiet" }, "Boxes: \u2713 whole lines, the right name; \u2717 dashed, on an object with a wrong name; ? dotted, on no object (IoU below .5). White: annotated.")),
    make("div", { class: "charts" }, ...charts.map((chart) => chart.element)));
  root.addEventListener("keydown", ({ key, target, ctrlKey, altKey, metaKey }) => {
    if (key.toLowerCase() === "d" && !ctrlKey && !altKey && !metaKey && target.tagName !== "SELECT") flip();
  });

  function draw() {
    const state = read();
    const shown = numbers.describe(state);
    if (JSON.stringify(shown) !== JSON.stringify(state.shown)) { // the other side changed settings alone
      change({ shown });
      return; // the change draws
    }
    columns.forEach(({ name, map, what, verdict, drawBoxes }, n) => {
      const difference = state.kind === "difference" && n > 0;
      const { values, speakers } = numbers.map(state, name);
      map.paint(values, speakers, difference ? "magma" : "viridis", REACH);
      what.textContent = difference ? "|p_t \u2212 p_s|" : n ? `step ${state.step}` : "";
      const { objects, named, highest } = shown.detectors[name];
      verdict.textContent = `${objects} of ${numbers.count} found, ${named} named; highest score ${fixed(highest, 2)}`;
      drawBoxes(numbers.over(name, state));
      map.element.setAttribute("role", "img");
      map.element.setAttribute("aria-label", `${name}, ${what.textContent}`);
    });
    const which = state.class_name ?? "highest of all classes";
    colours.score.set("viridis", `sigmoid score, ${which}; ${REACH} and more: yellow`, REACH);
    colours.difference.set("magma", `difference of scores, ${which}; ${REACH} and more: white`, REACH);
    colours.difference.element.hidden = state.kind === "score";

    const phase = phaseAt(state.step);
    guide.set(phase < 0 ? "" : keyOf(phase));
    for (const { patch, element } of [...kinds, ...thresholds, ...ends]) {
      const [[key, value]] = Object.entries(patch);
      element.setAttribute("aria-pressed", String(state[key] === value));
    }
    slider.set(steps.indexOf(state.step));
    classOf.set(state.class_name);
    level.set(state.stride);
    threshold.set(state.threshold);
    nameButton();
    for (const { name, output } of counts) output.textContent = String(shown.detectors[name].named);
    charts.forEach((chart, n) => chart.draw(root, state.step, shown.curves[numbers.curves[n].title]));
  }

  model.on("change:state", draw);
  const stop = redrawOnChange(root, draw);
  draw();
  return () => {
    pause();
    stop();
    model.off("change:state", draw);
  };
}
