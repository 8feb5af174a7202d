// Protocol lab: one location's logits as bars to drag, read by softmax and by sigmoid.

// ---- presets: text of the button, new logits, what to see ------------------------------------

const PRESETS = {
  shifted: {
    text: "shifted student",
    logits: ({ teacher }) => ({ student: teacher.map((logit) => tidy(logit + 3)) }),
    reading: "Every student logit is 3 too high. Softmax KD is 0 and pulls on nothing: it cannot see " +
      "a shift. L_cls sees the wrong scores and pulls them down. Press \u201cTrain both\u201d.",
  },
  single: {
    text: "one class",
    logits: ({ names }) => ({ names: names.slice(0, 1), teacher: [2], student: [-2] }),
    reading: "With one class the softmax is 1 whatever the logit, so softmax KD is always 0. L_cls " +
      "compares the two scores.",
  },
  background: {
    text: "background location",
    logits: (state, allNames) => ({
      names: namesFor(4, state.names, allNames), teacher: [-4, -8, -8.5, -8], student: [-8, -4, -8, -8.5],
    }),
    reading: "Nothing is here: teacher and student agree that every score is below 0.02. The softmax " +
      "names a class all the same, so softmax KD pulls hard; L_cls is almost 0.",
  },
  confident: {
    text: "confident teacher",
    logits: (state, allNames) => ({
      names: namesFor(4, state.names, allNames), teacher: [6, -6, -6, -6], student: [0.5, -1, -2, -1.5],
    }),
    reading: "The teacher is sure of one class and of the absence of the others. Both losses pull the " +
      "first logit up and the others down; L_cls asks each class for its own score.",
  },
  equal: {
    text: "equal",
    logits: ({ teacher }) => ({ student: [...teacher] }),
    reading: "The student says what the teacher says: both losses and all gradients are 0.",
  },
};

const INVITATION = "Press a preset, or drag the grip at the chart\u2019s right: it moves all of the student\u2019s " +
  "logits together. Which loss notices?";

// `count` names: those in use, then the first of all names that are not.
function namesFor(count, names, allNames) {
  const free = allNames.filter((name) => !names.includes(name));
  return [...names, ...free].slice(0, count);
}

// Sums like 0.1 + 0.2 without their tail.
const tidy = (value) => Math.round(value * 1e4) / 1e4;
// Two decimals where they say something, else one.
const logitText = (value) => fixed(value, Math.abs(value * 10 - Math.round(value * 10)) < 1e-6 ? 1 : 2);

// The two copies of the student that "Train both" lets roll: the state's name and ours.
const COPIES = [["by_softmax", "softmax KD (square)"], ["by_binary", "L_cls (triangle)"]];

// ---- the bars ----------------------------------------------------------------------------------

const HALF_RANGE = 10;
const STEPS = { ArrowUp: 0.1, ArrowRight: 0.1, ArrowDown: -0.1, ArrowLeft: -0.1, PageUp: 1, PageDown: -1,
  Home: -Infinity, End: Infinity };

// A grip that slides up and down its track: pointer and keys. `start()` is what a move begins with,
// `move(begun, by)` puts it `by` logits from there. `body` is what else can be grabbed, or null.
function makeGrip(kind, label, track, body, unitsPerPixel, { start, move }) {
  const grip = make("div", {
    class: `grip ${kind}`, role: "slider", tabindex: "0", "aria-label": label, "aria-orientation": "vertical",
    onkeydown(event) {
      if (!(event.key in STEPS) || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      move(start(), STEPS[event.key]);
    },
  });
  let drag = null;
  const grab = (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    grip.focus({ preventScroll: true });
    event.currentTarget.setPointerCapture(event.pointerId);
    drag = { y: event.clientY, begun: start() };
  };
  const pull = (event) => {
    if (drag) move(drag.begun, Math.round((drag.y - event.clientY) * unitsPerPixel() * 10) / 10);
  };
  for (const part of body ? [grip, body] : [grip]) {
    part.addEventListener("pointerdown", grab);
    part.addEventListener("pointermove", pull);
    part.addEventListener("pointerup", () => { drag = null; });
    part.addEventListener("pointercancel", () => { drag = null; });
  }
  track.append(grip);
  return {
    set(value, limit) {
      grip.style.top = `${50 - (50 * value) / limit}%`;
      grip.setAttribute("aria-valuemin", -limit);
      grip.setAttribute("aria-valuemax", limit);
      grip.setAttribute("aria-valuenow", tidy(value));
    },
  };
}

// One bar of one class: a track with the bar from zero to the logit and the grip at its end.
function makeBar(role, name, unitsPerPixel, handlers) {
  const body = make("div", { class: `bar ${role}` });
  const track = make("div", { class: "track" }, body);
  const grip = makeGrip(role, `${name}, ${role} logit`, track, body, unitsPerPixel, handlers);
  return {
    track,
    set(value, limit) {
      const end = 50 - (50 * value) / limit;
      body.style.top = `${Math.min(end, 50)}%`;
      body.style.height = `${Math.abs(end - 50)}%`;
      grip.set(value, limit);
    },
  };
}

// The whole chart of logits: an axis, a pair of bars a class, and the grip that moves all of the student's.
function makeChart(read, edit) {
  const stage = make("div", { class: "stage" });
  let limit = HALF_RANGE; // grows for larger logits, never shrinks under the reader's hand
  let parts = null;
  const unitsPerPixel = () => (2 * limit) / parts.axis.clientHeight;

  function setLogit(role, index, value) {
    const logits = [...read()[role]];
    logits[index] = tidy(clamp(value, -limit, limit));
    edit({ [role]: logits });
  }
  function shiftStudent(begun, by) {
    const bounded = clamp(by, -limit - Math.min(...begun), limit - Math.max(...begun));
    edit({ student: begun.map((logit) => tidy(logit + bounded)) });
  }
  function build(names) {
    const axis = make("div", { class: "axis", "aria-hidden": "true" });
    const classes = names.map((name, index) => {
      const bars = ["teacher", "student"].map((role) => makeBar(role, name, unitsPerPixel, {
        start: () => read()[role][index],
        move: (begun, by) => setLogit(role, index, begun + by),
      }));
      const numbers = [make("span", { class: "teacher-text" }), make("span", { class: "student-text" })];
      const label = make("div", { class: "foot" }, make("span", { class: "name", title: name }, name), ...numbers);
      const copies = COPIES.map(([key]) => make("div", { class: `copy ${key}`, "aria-hidden": "true" }));
      bars[1].track.append(...copies);
      return { bars, numbers, copies, element: make("div", { class: "class" }, ...bars.map((bar) => bar.track)), label };
    });
    const mean = make("div", { class: "mean" });
    const shiftTrack = make("div", { class: "track shift-track" });
    const shift = makeGrip("shift", "all student logits together (their mean)", shiftTrack, null, unitsPerPixel,
      { start: () => [...read().student], move: shiftStudent });
    const shiftNumber = make("span", { class: "student-text" });
    stage.replaceChildren(
      axis, mean, ...classes.map((item) => item.element), shiftTrack,
      make("div", { class: "foot" }, make("span", {}, "\u00a0"),
        make("span", { class: "teacher-text" }, "T"), make("span", { class: "student-text" }, "S")),
      ...classes.map((item) => item.label),
      make("div", { class: "foot" }, make("span", { class: "name" }, "all"),
        make("span", { class: "quiet" }, "mean"), shiftNumber));
    stage.style.gridTemplateColumns = `32px repeat(${names.length}, minmax(0, 1fr)) 48px`;
    parts = { key: JSON.stringify(names), axis, classes, mean, shift, shiftNumber, limit: 0 };
  }
  return {
    element: stage,
    draw(state) {
      limit = Math.max(limit, 2 * Math.ceil(Math.max(...[...state.teacher, ...state.student].map(Math.abs)) / 2));
      if (parts?.key !== JSON.stringify(state.names)) build(state.names);
      if (parts.limit !== limit) drawTicks(parts.axis, limit);
      parts.limit = limit;
      parts.classes.forEach((item, index) => {
        [state.teacher[index], state.student[index]].forEach((logit, n) => {
          item.bars[n].set(logit, limit);
          item.numbers[n].textContent = logitText(logit);
        });
        COPIES.forEach(([key], n) => {
          item.copies[n].hidden = !state.trained;
          item.copies[n].style.top = `${50 - (50 * clamp(state[key][index], -limit, limit)) / limit}%`;
        });
      });
      const mean = sum(state.student) / state.student.length;
      parts.shift.set(mean, limit);
      parts.shiftNumber.textContent = logitText(mean);
      parts.mean.style.setProperty("--at", 0.5 - (0.5 * mean) / limit);
    },
  };
}

function drawTicks(axis, limit) {
  axis.replaceChildren(...ticks(-limit, limit, 4).map((tick) => make("span", {
    class: tick === 0 ? "tick origin" : "tick", style: `top: ${50 - (50 * tick) / limit}%`,
  }, tickText(tick))));
}

// ---- one protocol: its scores, its loss and gradient, one row a class ---------------------------

// With a threshold, its line crosses the bars.
function makeCard(title, formula, lossName, threshold = null) {
  const loss = make("output", { class: "loss" });
  const scoreHead = make("th", { scope: "col", colspan: "2" });
  const rows = make("tbody");
  const element = make("div", { class: "panel card" },
    make("h4", {}, title),
    make("p", { class: "verdict" }, make("span", {}, `${lossName} = `), loss),
    make("p", { class: "quiet small" }, formula),
    make("table", {},
      make("caption", { class: "visually-hidden" }, `${title}: values and gradient of ${lossName} for each class`),
      ...["names", "bars", "values", "bars", "steps"].map((name) => make("col", { class: name })),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "class"), scoreHead,
        make("th", { scope: "col", colspan: "2" }, "gradient, step"))),
      rows));
  if (threshold !== null) element.style.setProperty("--threshold", threshold);
  let cells = [];
  function build(names) {
    cells = names.map((name) => {
      const bars = ["teacher", "student", ...COPIES.map(([key]) => key)].map((kind) => make("div", { class: kind }));
      const numbers = [make("div", { class: "teacher-text" }), make("div", { class: "student-text" })];
      const pull = make("div", { class: "pull" });
      const gradient = make("span", { class: "gradient" });
      const step = make("span", { class: "step" });
      return { bars, numbers, pull, gradient, step, name };
    });
    rows.replaceChildren(...cells.map((cell) => make("tr", {},
      make("th", { scope: "row", title: cell.name }, cell.name),
      make("td", { class: threshold === null ? "scores" : "scores lined" }, ...cell.bars),
      make("td", { class: "numbers" }, ...cell.numbers),
      make("td", {}, make("div", { class: "zero" }, cell.pull)),
      make("td", { class: "numbers" }, cell.gradient, cell.step))));
  }
  return {
    element,
    // scores: of teacher, student and, once they train, the copies, [owner][class]; weight: of the
    // loss, by which the gradient's bar is longer; reach: the longest bar's.
    draw(names, head, scores, lossValue, gradients, weight, reach) {
      if (JSON.stringify(names) !== JSON.stringify(cells.map((cell) => cell.name))) build(names);
      scoreHead.textContent = head;
      loss.textContent = fixed(lossValue, 4);
      cells.forEach((cell, index) => {
        cell.bars.forEach((bar, n) => {
          bar.hidden = n >= scores.length;
          if (n < scores.length) bar.style.width = `${100 * scores[n][index]}%`;
        });
        cell.numbers.forEach((number, n) => { number.textContent = fixed(scores[n][index], 3); });
        const gradient = gradients[index];
        const share = (50 * weight * gradient) / reach;
        cell.pull.style.left = `${50 + Math.min(0, share)}%`;
        cell.pull.style.width = `${Math.abs(share)}%`;
        cell.gradient.textContent = fixed(gradient, 4);
        // Training goes against the gradient.
        const still = Math.abs(gradient) < 5e-5;
        cell.step.textContent = still ? "\u00b7" : gradient > 0 ? "\u2193" : "\u2191";
        cell.step.setAttribute("aria-label", still ? "stays" : gradient > 0 ? "goes down" : "goes up");
        cell.step.setAttribute("role", "img");
      });
    },
  };
}

// ---- the explorer ---------------------------------------------------------------------------

function render({ model, el }) {
  const { names: allNames, threshold, descent } = model.get("data");
  const { read, change, set, edit, valuesOf, trailsOf, training } = makeTrainedState(model, descent);

  const chart = makeChart(read, edit);
  const guide = makeGuide(PRESETS, {
    label: "presets", invitation: INVITATION,
    onStep: (key) => edit({ ...PRESETS[key].logits(read(), allNames), preset: key }),
  });
  const train = makeButton("Train both", () => { set({ trained: 0 }); training.start(); });
  const remove = makeButton("\u2212 class", () => {
    const { names, teacher, student } = read();
    edit({ names: names.slice(0, -1), teacher: teacher.slice(0, -1), student: student.slice(0, -1) });
  }, { "aria-label": "remove the last class" });
  const add = makeButton("+ class", () => {
    const { names, teacher, student } = read();
    edit({ names: namesFor(names.length + 1, names, allNames), teacher: [...teacher, -3], student: [...student, -3] });
  }, { "aria-label": "add a class" });
  const temperature = makeRadios({
    label: "softmax temperature", options: [[1, "1"], [2, "2"], [4, "4"]],
    onChange: (value) => edit({ temperature: value }),
  });
  const throughWeight = makeCheckbox({
    label: "L_cls: gradient flows through the weight (official code)",
    onChange: (checked) => edit({ detach_weight: !checked }),
  });
  const softmaxCard = makeCard("Softmax: classes against each other",
    "T\u00b2 \u00b7 mean over classes of KL(teacher \u2016 student)", "softmax KD");
  const sigmoidCard = makeCard("Sigmoid: each class on its own",
    "sum over classes of |p_t \u2212 p_s| \u00b7 BCE(p_s, p_t)", "L_cls", threshold);
  const sticky = { losses: make("span", { class: "losses" }), detected: make("span") };
  const ends = make("p", { class: "ends", "aria-live": "polite" });
  const weights = make("span");

  const shift = (by) => edit({ student: read().student.map((logit) => tidy(clamp(logit + by, -HALF_RANGE, HALF_RANGE))) });
  makeRoot(el, "bckd-protocol-lab", "Protocol lab",
    make("h3", {}, "Protocol lab: one location, two readings of its logits"),
    make("p", { class: "quiet" }, "Drag the bars, or focus one and use the arrow and page keys. ",
      make("span", { class: "role" }, make("span", { class: "key teacher" }), "teacher (T)"), " ",
      make("span", { class: "role" }, make("span", { class: "key student" }), "student (S)"), ". Move the student ",
      makeWord("2 up", () => shift(2)), " or ", makeWord("2 down", () => shift(-2)), " in all classes, or put it ",
      makeWord("on the teacher", () => edit({ student: [...read().teacher] })), "."),
    guide.buttons, guide.reading,
    make("div", { class: "sticky row" }, sticky.losses, sticky.detected, train),
    ends,
    make("div", { class: "panel" },
      make("div", { class: "row head" }, make("h4", {}, "Class logits"), remove, add), chart.element),
    make("div", { class: "row" }, temperature.element, throughWeight.element),
    make("div", { class: "panels" }, softmaxCard.element, sigmoidCard.element),
    make("p", { class: "quiet small" }, `A class is detected from a score of ${threshold} on, the thin line. Gradients are those ` +
      "on the student\u2019s logits; their bars show them times the loss\u2019s published weight, ", weights, ", both cards to " +
      "one scale; the arrow says where a training step moves the logit: against the gradient. \u201cTrain both\u201d splits " +
      `the student in two copies that go ${descent.steps} such steps, one for each loss: rate \u00d7 weight \u00d7 gradient, the rate ` +
      `falling from ${descent.first_rate} to 0.`));

  const detectedIn = (logits) => logits.filter((logit) => sigmoid(logit) >= threshold).length;
  function endsText(state) {
    const said = COPIES.map(([key, name]) => `trained by ${name}: ${detectedIn(state[key])} of ${state.names.length} detected, ` +
      `scores ${isRight(state.teacher, state[key]) ? "right" : "wrong"}`);
    return `At the end, ${said.join("; ")} (right: each within ${RIGHT_WITHIN} of the teacher\u2019s).`;
  }

  function draw() {
    const state = read();
    const values = valuesOf(state);
    const full = { ...state, ...values };
    if (JSON.stringify(full) !== JSON.stringify(state)) { // the other side changed settings alone
      change(values);
      return; // the change draws
    }
    const count = state.names.length;
    const [softmaxWeight, binaryWeight] = descent.weights[count - 1];
    chart.draw(state);
    guide.set(state.preset);
    sticky.losses.textContent = `softmax KD ${fixed(values.softmax_loss, 2)} | L_cls ${fixed(values.binary_loss, 2)}`;
    sticky.detected.replaceChildren("detected: ",
      make("span", { class: "teacher-text" }, `T ${detectedIn(state.teacher)}`), ", ",
      make("span", { class: "student-text" }, `S ${detectedIn(state.student)}`), ` of ${count}`);
    const sentence = state.trained === descent.steps ? endsText(state) : "";
    if (ends.textContent !== sentence) ends.textContent = sentence;
    weights.textContent = `K/8 = ${softmaxWeight} and ${binaryWeight}`;
    remove.disabled = count <= 1;
    add.disabled = count >= allNames.length;
    temperature.set(state.temperature);
    throughWeight.set(!state.detach_weight);
    const reach = Math.max(0.1, ...values.softmax_gradient.map((slope) => Math.abs(softmaxWeight * slope)),
      ...values.binary_gradient.map((slope) => Math.abs(binaryWeight * slope)));
    const copies = state.trained ? COPIES.map(([key]) => state[key]) : [];
    softmaxCard.draw(state.names, `probability, T = ${state.temperature}`,
      [values.teacher_probabilities, values.student_probabilities, ...copies.map((logits) => softmax(logits, state.temperature))],
      values.softmax_loss, values.softmax_gradient, softmaxWeight, reach);
    sigmoidCard.draw(state.names, "score",
      [values.teacher_scores, values.student_scores, ...copies.map((logits) => logits.map(sigmoid))],
      values.binary_loss, values.binary_gradient, binaryWeight, reach);
  }
  model.on("change:state", draw);
  draw();
  return () => {
    training.stop();
    model.off("change:state", draw);
  };
}
