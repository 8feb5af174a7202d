// Training replay: one picture's score map as a run goes on, above the run's curves.

const UNITS = 65535; // of a score in the data
const PAUSE = 700; // milliseconds between two checkpoints

// ---- numbers, as in replay.py ------------------------------------------------------------------

function makeNumbers(data) {
  const { values: scores, shape: [, locations, count] } = decode(data.scores);
  const stack = decode(data.stack);
  const curves = data.curves.map(({ title, points }) => {
    const { values, shape } = decode(points);
    return { title, points: Array.from({ length: shape[0] }, (_, n) => [values[2 * n], values[2 * n + 1]]) };
  });
  const levelOf = (stride) => (stride === null ? null : data.levels.findIndex(([each]) => each === stride));

  function map({ step, class_name: className, stride }) {
    const label = className === null ? null : data.classes.indexOf(className);
    const values = new Float64Array(locations);
    const first = data.steps.indexOf(step) * locations;
    for (let n = 0; n < locations; n++) {
      const own = scores.subarray((first + n) * count, (first + n + 1) * count);
      values[n] = (label === null ? Math.max(...own) : own[label]) / UNITS;
    }
    return { values, speakers: speakersOf(values, stack, levelOf(stride)) };
  }
  return {
    curves, map,
    describe(state) {
      const { values } = map(state);
      const level = levelOf(state.stride);
      const before = data.levels.slice(0, level ?? 0).map(([, rows, columns]) => rows * columns);
      const cells = level === null ? locations : data.levels[level][1] * data.levels[level][2];
      const shown = values.subarray(sum(before), sum(before) + cells);
      return {
        highest: Math.max(...shown),
        mean: sum(shown) / shown.length,
        curves: Object.fromEntries(curves.map(({ title, points }) => [title, valueAt(points, state.step)])),
      };
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

// ---- a curve with the marker --------------------------------------------------------------------

const HEIGHT = 150;

function makeChart({ title, points }, reach) {
  const canvas = make("canvas", { role: "img", "aria-label": `${title} over training steps` });
  const shown = make("output");
  const highest = Math.max(...points.map(([, value]) => value));
  const lowest = Math.min(0, ...points.map(([, value]) => value));
  return {
    canvas,
    element: make("div", { class: "panel chart" }, make("h4", { class: "head" }, make("span", {}, title), shown), canvas),
    draw(root, step, value) {
      shown.textContent = value === null ? "none yet" : curveText(value);
      const { paddingLeft, paddingRight } = getComputedStyle(canvas.parentElement);
      const width = canvas.parentElement.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
      if (width <= 0) return;
      const context = sharpContext(canvas, width, HEIGHT);
      const box = { left: 38, top: 8, width: width - 52, height: HEIGHT - 34 };
      const { toX, toY } = drawAxes(context, root, box, { x: reach, y: [lowest, highest] });
      context.lineWidth = 2;
      context.lineJoin = "round";
      context.strokeStyle = cssColour(root, "--bckd-teacher-text");
      line(context, points.map(([at, each]) => [toX(at), toY(each)]));
      context.strokeStyle = context.fillStyle = cssColour(root, "--bckd-student");
      context.lineWidth = 1.5;
      line(context, [[toX(step), box.top], [toX(step), box.top + box.height]]);
      if (value === null) return;
      context.beginPath();
      context.arc(toX(step), toY(value), 4.5, 0, 2 * Math.PI);
      context.fill();
    },
  };
}

// Three digits that count.
const curveText = (value) => Number(value.toPrecision(3)).toString().replace("-", "\u2212");

// ---- the explorer -------------------------------------------------------------------------------

function render({ model, el }) {
  const data = model.get("data");
  const { steps } = data;
  const numbers = makeNumbers(data);
  const change = stateChanger(model);
  const read = () => model.get("state");
  const edit = (patch) => change({ ...patch, shown: numbers.describe({ ...read(), ...patch }) });

  const stage = makeMapStage(data, { role: "img" });
  const bar = makeColourBar();
  const readout = make("p", { "aria-live": "polite" });
  const { classOf, level, opacity } = makeMapControls(data, edit);
  const slider = makeSlider({
    label: "checkpoint", min: 0, max: steps.length - 1, step: 1, format: (index) => `step ${steps[index]}`,
    onChange(index) {
      pause();
      edit({ step: steps[index] });
    },
  });
  slider.element.classList.add("steps");

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

  const reach = [...steps, ...numbers.curves.flatMap(({ points }) => points.map(([at]) => at))];
  const charts = numbers.curves.map((curve) => makeChart(curve, [Math.min(0, ...reach), Math.max(...reach)]));
  const root = makeRoot(el, "bckd-replay", "Training replay",
    make("h3", {}, "Training replay: the score map as the run goes on"),
    make("div", { class: "row player" }, button, slider.element),
    make("div", { class: "row" }, classOf.element, level.element, opacity.element),
    make("div", { class: "layout" }, make("div", {}, stage.element, bar.element, readout),
      make("div", { class: "charts" }, ...charts.map((chart) => chart.element))));

  function draw() {
    const state = read();
    const shown = numbers.describe(state);
    if (JSON.stringify(shown) !== JSON.stringify(state.shown)) { // the other side changed settings alone
      change({ shown });
      return; // the change draws
    }
    const { values, speakers } = numbers.map(state);
    stage.paint(values, speakers, "viridis");
    stage.setOpacity(state.opacity);
    slider.set(steps.indexOf(state.step));
    classOf.set(state.class_name);
    level.set(state.stride);
    opacity.set(state.opacity);
    nameButton();
    const which = `sigmoid score, ${state.class_name ?? "highest of all classes"}`;
    bar.set("viridis", which);
    readout.textContent = `step ${state.step}: highest ${fixed(shown.highest, 3)}, mean ${fixed(shown.mean, 3)}`;
    stage.element.setAttribute("aria-label", `${which}, at step ${state.step}`);
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
