// "Train both": two copies of the student roll downhill, one on each loss, as in bckd/viz/descent.py.

const DESCENT_SECONDS = 4;
const RIGHT_WITHIN = 0.05; // a score this near the teacher's is called right

// rules: { steps, first_rate, weights: [[softmax, binary], ...] by the number of classes, from 1 }, from Python.
// Returns { softmax, binary }: logits before the first step and after each.
function descend({ teacher, student, temperature, detach_weight: detachWeight = false }, rules) {
  const [softmaxWeight, binaryWeight] = rules.weights[teacher.length - 1];
  const follow = (weight, gradientAt) => {
    const path = [student];
    for (let step = 0; step < rules.steps; step++) {
      const rate = rules.first_rate * (1 - step / rules.steps) * weight;
      const gradient = gradientAt(path[step]);
      path.push(path[step].map((logit, j) => logit - rate * gradient[j]));
    }
    return path;
  };
  return {
    softmax: follow(softmaxWeight, (logits) => softmaxGradient(teacher, logits, temperature)),
    binary: follow(binaryWeight, (logits) => binaryGradient(teacher, logits, detachWeight)),
  };
}

// What the two copies have gone of their ways after `trained` steps; the whole ways are computed
// once for each setting. Returns { softmax, binary } as `descend` does.
function makeTrails(rules) {
  let known = null;
  let paths = null;
  return (state) => {
    const { teacher, student, temperature, detach_weight: detachWeight, trained } = state;
    if (trained === 0) return { softmax: [student], binary: [student] };
    const key = JSON.stringify([teacher, student, temperature, detachWeight]);
    if (key !== known) paths = descend(state, rules);
    known = key;
    return { softmax: paths.softmax.slice(0, trained + 1), binary: paths.binary.slice(0, trained + 1) };
  };
}

// The copies' present logits, as the state has them.
const endsOf = ({ softmax, binary }) => ({ by_softmax: softmax[softmax.length - 1], by_binary: binary[binary.length - 1] });

// Counts up to `steps`, slowly at first: there the copies move most. `show(step)` is called once a
// frame; at once with the last step for whoever asked for less motion. Returns { start, stop }.
function makeTraining(steps, show) {
  let frame = 0;
  const stop = () => cancelAnimationFrame(frame);
  return {
    stop,
    start() {
      stop();
      if (window.matchMedia("(prefers-reduced-motion: reduce)").matches) return show(steps);
      let begun = null;
      const advance = (now) => {
        begun ??= now;
        const part = Math.min(1, (now - begun) / (1000 * DESCENT_SECONDS));
        show(Math.round(steps * part ** 2.5));
        if (part < 1) frame = requestAnimationFrame(advance);
      };
      frame = requestAnimationFrame(advance);
    },
  };
}

// The state of an explorer whose student is trained. `edit` is a change by hand: no guided step any
// more, and the end of a training; `valuesOf` is what follows from a state.
// Returns { read, change, set, edit, valuesOf, trailsOf, training }.
function makeTrainedState(model, rules) {
  const change = stateChanger(model);
  const read = () => model.get("state");
  const trailsOf = makeTrails(rules);
  const valuesOf = (state) => ({ ...protocolValues(state), ...endsOf(trailsOf(state)) });
  const set = (patch) => {
    const state = { ...read(), ...patch };
    change({ ...state, ...valuesOf(state) });
  };
  const training = makeTraining(rules.steps, (trained) => set({ trained }));
  const edit = (patch) => {
    training.stop();
    set({ preset: "", trained: 0, ...patch });
  };
  return { read, change, set, edit, valuesOf, trailsOf, training };
}

const isRight = (teacher, logits) =>
  logits.every((logit, j) => Math.abs(sigmoid(logit) - sigmoid(teacher[j])) <= RIGHT_WITHIN);
