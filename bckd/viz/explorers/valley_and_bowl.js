// Valley and bowl: softmax distillation and L_cls as landscapes over a student's two logits.

// ---- guided steps: text of the button, new logits, what to see --------------------------------

const GUIDE = {
  first: {
    text: "1. A student",
    logits: ({ start }) => start,
    reading: "This student is sure of both classes, the teacher only of the first: both losses see a " +
      "difference, and each arrow shows where a training step would push.",
  },
  shifted: {
    text: "2. A shift",
    logits: ({ start: { teacher } }) => ({ teacher, student: teacher.map((logit) => logit + 3) }),
    reading: "Both logits are 3 too high, the scores are wrong, and softmax KD is 0.00: the student stands " +
      "on the floor of the valley, where nothing pushes; L_cls is a bowl and pushes it back.",
  },
  train: {
    text: "3. Train both",
    logits: ({ start }) => start,
    train: true,
    reading: "Softmax\u2019s copy (square) rolls straight to the valley\u2019s floor and stays there with a wrong " +
      "score; L_cls\u2019s copy (triangle) rolls to the bottom of the bowl, where the teacher is.",
  },
  background: {
    text: "4. Nothing there",
    logits: () => ({ teacher: [-4, -4], student: [3, 3] }),
    reading: "The teacher sees neither class, as at most places of an image, and the student shouts both: " +
      "softmax KD is 0.00 all the same. Press \u201cTrain both\u201d again.",
  },
  equal: {
    text: "5. Agreement",
    logits: ({ start: { teacher } }) => ({ teacher, student: teacher }),
    reading: "Student and teacher say the same, and both losses are 0. For L_cls this is the only such " +
      "point; for softmax KD every point of the dashed line is as good.",
  },
};

const INVITATION = "Drag the student (the disc) in either picture, or press a step. Then press \u201cTrain both\u201d: " +
  "which loss brings its scores to the teacher\u2019s?";

const tidy = (value) => Math.round(value * 1e4) / 1e4;
const scoreText = (logit) => fixed(sigmoid(logit), 2);

// ---- scores beside the teacher's ----------------------------------------------------------------

const OWNERS = [
  ["teacher", "teacher"],
  ["student", "student"],
  ["by_softmax", "by softmax"],
  ["by_binary", "by L_cls"],
];

// One row an owner of logits: a bar and a number a class, both losses.
function makeScoreTable(names, threshold) {
  const rows = OWNERS.map(([key, title]) => {
    const bars = names.map(() => make("div", { class: `fill ${key}` }));
    const scores = names.map(() => make("span"));
    const losses = [make("td", { class: "number" }), make("td", { class: "number" })];
    const mark = make("span", { class: "mark" });
    const element = make("tr", {}, make("th", { scope: "row" }, make("span", { class: `key ${key}` }), title, " ", mark),
      ...names.map((_, n) => make("td", {}, make("div", { class: "score" }, make("div", { class: "track" }, bars[n]), scores[n]))),
      ...losses);
    return { key, element, bars, scores, losses, mark };
  });
  const element = make("table", { class: "scores" },
    make("caption", { class: "visually-hidden" }, "Scores and losses of teacher, student and the two trained copies"),
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "score of"),
      ...[...names, "softmax KD", "L_cls"].map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...rows.map((row) => row.element)));
  element.style.setProperty("--threshold", `${100 * threshold}%`);
  return {
    element,
    draw(state, finished) {
      for (const { key, bars, scores, losses, mark } of rows) {
        const logits = state[key];
        const copy = key.startsWith("by_");
        const empty = copy && !state.trained;
        logits.forEach((logit, n) => {
          bars[n].style.width = empty ? 0 : `${100 * sigmoid(logit)}%`;
          scores[n].textContent = empty ? "\u2013" : scoreText(logit);
        });
        const values = [softmaxLoss(state.teacher, logits, state.temperature), binaryLoss(state.teacher, logits)];
        values.forEach((value, n) => { losses[n].textContent = empty ? "\u2013" : fixed(value, 2); });
        const judged = finished && copy;
        mark.textContent = judged ? (isRight(state.teacher, logits) ? "\u2713 right" : "\u2717 wrong") : "";
      }
    },
  };
}

// ---- the explorer ---------------------------------------------------------------------------

function render({ model, el }) {
  const { reach, start, threshold, descent } = model.get("data");
  const { names } = model.get("state");
  const { read, change, set, edit, valuesOf, trailsOf, training } = makeTrainedState(model, descent);
  const moveTo = (role, point) => edit({ [role]: point.map((logit) => tidy(clamp(logit, -reach, reach))) });
  const shift = (by) => moveTo("student", read().student.map((logit) => logit + by));

  const landscapes = [
    {
      kind: "softmax", name: "softmax KD", title: "Softmax KD: valley", floor: true,
      formula: "softmax of both logits",
      lossOf: (teacher, student) => softmaxLoss(teacher, student, read().temperature),
      gradientOf: (teacher, student) => softmaxGradient(teacher, student, read().temperature),
    },
    {
      kind: "binary", name: "L_cls", title: "L_cls: bowl", floor: false,
      formula: "sigmoid of each logit",
      lossOf: binaryLoss,
      gradientOf: (teacher, student) => binaryGradient(teacher, student, false),
    },
  ].map((loss) => ({ loss, landscape: makeLandscape(loss, names, reach, read, moveTo) }));

  const guide = makeGuide(GUIDE, {
    label: "guided steps", invitation: INVITATION,
    onStep(key) {
      edit({ ...GUIDE[key].logits({ start }), preset: key });
      if (GUIDE[key].train) training.start();
    },
  });
  const train = makeButton("Train both", () => { set({ trained: 0 }); training.start(); }, { class: "train" });
  const sticky = { softmax: make("output"), binary: make("output"), scores: make("span", { class: "small" }) };
  const table = makeScoreTable(names, threshold);
  const verdict = make("p", { class: "verdict", "aria-live": "polite" });
  const [first, second] = names;
  const [softmaxWeight, binaryWeight] = descent.weights[names.length - 1];

  const root = makeRoot(el, "bckd-valley-and-bowl", "Valley and bowl",
    make("h3", {}, "Valley and bowl: which loss brings the student home?"),
    make("p", {}, `At one place of an image a detector gives a number (a logit) to each class, here ${first} and ` +
      `${second}. Every point below is a student; the deeper the colour, the higher its loss against the `,
      make("span", { class: "key teacher" }), "teacher. Push the ", make("span", { class: "key student" }), "student ",
      makeWord("3 up", () => shift(3)), " or ", makeWord("3 down", () => shift(-3)),
      " in both logits, put it ", makeWord("on the teacher", () => moveTo("student", read().teacher)),
      ", or let the teacher see ", makeWord(`the ${first}`, () => moveTo("teacher", [2, -2])), ", ",
      makeWord("both", () => moveTo("teacher", [2, 2])), " or ", makeWord("neither", () => moveTo("teacher", [-4, -4])), "."),
    guide.buttons, guide.reading,
    make("div", { class: "sticky row" },
      make("span", { class: "losses" },
        make("span", { class: "softmax-text" }, "softmax KD ", sticky.softmax), " | ",
        make("span", { class: "binary-text" }, "L_cls ", sticky.binary)),
      sticky.scores, train),
    make("div", { class: "landscapes" }, ...landscapes.map(({ landscape }) => landscape.element)),
    make("div", { class: "panel" }, table.element, verdict),
    make("p", { class: "quiet small" }, "Drag, click, or focus a point: arrow keys move it by 0.1 (with Shift by 1), " +
      `page keys both logits by 1. The thin line in the bars is the score from which a class counts as detected, ${threshold}. ` +
      `\u201cTrain both\u201d is plain gradient descent on the two logits, ${descent.steps} steps; each moves by rate \u00d7 published weight ` +
      `\u00d7 gradient, the rate falls from ${descent.first_rate} to 0, softmax KD (temperature ${read().temperature}) weighs K/8, here ` +
      `${softmaxWeight}, and L_cls ${binaryWeight}; the arrows are 3 \u00d7 weight \u00d7 gradient. Scores are called right within ` +
      `${RIGHT_WITHIN} of the teacher\u2019s. In a real run all logits come from shared weights, and ` +
      "labels pull as well."));

  function describe(role) {
    const { [role]: logits, softmax_loss: softmaxNow, binary_loss: binaryNow } = read();
    const each = names.map((name, n) => `${name} ${fixed(logits[n], 1)}, score ${scoreText(logits[n])}`).join("; ");
    return `${each}; softmax KD ${fixed(softmaxNow, 2)}, L_cls ${fixed(binaryNow, 2)}`;
  }

  function draw() {
    const state = read();
    const values = valuesOf(state);
    if (JSON.stringify({ ...state, ...values }) !== JSON.stringify(state)) { // the other side changed settings alone
      change(values);
      return; // the change draws
    }
    const finished = state.trained === descent.steps;
    const trails = trailsOf(state);
    const copies = state.trained === 0 ? [] : [
      { kind: "softmax", path: trails.softmax, colour: "--bckd-softmax", shape: "square" },
      { kind: "binary", path: trails.binary, colour: "--bckd-binary", shape: "triangle" },
    ];
    landscapes.forEach(({ loss, landscape }, n) => {
      const seen = copies.map((copy) => ({ ...copy, own: copy.kind === loss.kind }));
      seen.sort((a, b) => a.own - b.own); // one's own on top
      landscape.draw(root, state, descent.weights[names.length - 1][n], seen, describe);
    });
    guide.set(state.preset);
    const towards = (from, to) => (state.trained ? `${fixed(from, 2)} \u2192 ${fixed(to, 2)}` : fixed(from, 2));
    sticky.softmax.textContent =
      towards(state.softmax_loss, softmaxLoss(state.teacher, state.by_softmax, state.temperature));
    sticky.binary.textContent = towards(state.binary_loss, binaryLoss(state.teacher, state.by_binary));
    const scores = (kind, logits) => make("span", { class: `${kind}-text` }, logits.map(scoreText).join(", "));
    sticky.scores.replaceChildren("scores: ", ...(state.trained
      ? [scores("softmax", state.by_softmax), " | ", scores("binary", state.by_binary)] : [scores("student", state.student)]),
    make("span", { class: "beside" }, "; teacher ", scores("teacher", state.teacher)));
    table.draw(state, finished);
    const sentence = finished ? verdictOf(state) : "";
    if (verdict.textContent !== sentence) verdict.textContent = sentence;
  }

  function verdictOf(state) {
    const said = (logits) => names.map((name, n) => `${name} ${scoreText(logits[n])}`).join(", ");
    const judged = (logits) => `${said(logits)}, ${isRight(state.teacher, logits) ? "right" : "wrong"}`;
    return `The teacher says ${said(state.teacher)}. Trained by softmax KD: ${judged(state.by_softmax)}. ` +
      `Trained by L_cls: ${judged(state.by_binary)}.`;
  }

  model.on("change:state", draw);
  const stop = redrawOnChange(root, draw);
  draw();
  return () => {
    training.stop();
    stop();
    model.off("change:state", draw);
  };
}
