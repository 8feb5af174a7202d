// Both losses of one location and their gradients, as in bckd/losses/distillation.py with divisor 1.

// T^2 mean_j KL(softmax(t / T) || softmax(s / T))
function softmaxLoss(teacher, student, temperature) {
  const logTeacher = logSoftmax(teacher, temperature);
  const logStudent = logSoftmax(student, temperature);
  const terms = logTeacher.map((value, j) => Math.exp(value) * (value - logStudent[j]));
  return (temperature ** 2 * sum(terms)) / teacher.length;
}

function softmaxGradient(teacher, student, temperature) {
  const target = softmax(teacher, temperature);
  return softmax(student, temperature).map((p, j) => (temperature * (p - target[j])) / teacher.length);
}

// BCE(p_s, p_t) of a logit and a target score.
const crossEntropy = (logit, target) => softplus(logit) - logit * target;

// sum_j |p_t - p_s| BCE(p_s, p_t)
function binaryLoss(teacher, student) {
  return sum(student.map((logit, j) => {
    const target = sigmoid(teacher[j]);
    return Math.abs(sigmoid(logit) - target) * crossEntropy(logit, target);
  }));
}

// d(|gap| BCE) = |gap| (p_s - p_t) + BCE sign(gap) p_s (1 - p_s); a constant weight has no second part.
function binaryGradient(teacher, student, detachWeight) {
  return student.map((logit, j) => {
    const target = sigmoid(teacher[j]);
    const score = sigmoid(logit);
    const gap = score - target;
    const throughWeight = crossEntropy(logit, target) * Math.sign(gap) * score * sigmoid(-logit);
    return Math.abs(gap) * gap + (detachWeight ? 0 : throughWeight);
  });
}

// All that the explorers show of a location, under the names of `ProtocolValues`.
function protocolValues({ teacher, student, temperature, detach_weight: detachWeight = false }) {
  return {
    teacher_probabilities: softmax(teacher, temperature),
    student_probabilities: softmax(student, temperature),
    teacher_scores: teacher.map(sigmoid),
    student_scores: student.map(sigmoid),
    softmax_loss: softmaxLoss(teacher, student, temperature),
    softmax_gradient: softmaxGradient(teacher, student, temperature),
    binary_loss: binaryLoss(teacher, student),
    binary_gradient: binaryGradient(teacher, student, detachWeight),
  };
}
