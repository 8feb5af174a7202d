// The live lab's two workers: one draws the scene and runs the students, one runs the teacher.
// A worker that is busy when the scene changes goes on and then takes the latest scene.

// Milliseconds from one look of the teacher's to the next: it must not take the time of the students,
// which follow the hand, where there are few cores.
const TEACHER_PACE = 300;

function makeLooker(address, pace, networks, detection, onAnswer, onFault) {
  const worker = new Worker(address);
  let busy = false;
  let waiting = null;
  let earliest = 0;
  let timer = 0;
  const next = () => {
    if (busy || waiting === null) return;
    clearTimeout(timer);
    const now = performance.now();
    if (now < earliest) {
      timer = setTimeout(next, earliest - now);
      return;
    }
    earliest = now + pace;
    busy = true;
    worker.postMessage({ look: waiting });
    waiting = null;
  };
  worker.onmessage = ({ data }) => {
    busy = false;
    onAnswer(data);
    next();
  };
  worker.onerror = (event) => onFault(event.message);
  worker.postMessage({ networks, detection });
  return {
    setScene(scene) { worker.postMessage({ scene }); },
    look(request) {
      waiting = request;
      next();
    },
    stop() {
      clearTimeout(timer);
      worker.terminate();
    },
  };
}

// onLook is told each look at a scene: { id, request, picture, students, teacher }; of the students as
// soon as they have answered (teacher: null), and again when the teacher has answered too.
function makeLookers({ networks, detection }, onLook, onFault) {
  const address = URL.createObjectURL(new Blob([WORKER_SOURCE], { type: "text/javascript" }));
  const { teacher: teachers, ...others } = networks;
  const looks = new Map(); // by id, those that the teacher may still answer
  let asked = 0;
  const students = makeLooker(address, 0, others, detection, ({ id, picture, outputs, milliseconds }) => {
    const look = { ...looks.get(id), id, picture, students: outputs, studentTime: milliseconds, teacher: null };
    looks.set(id, look);
    teacher.look({ id, picture });
    onLook(look);
  }, onFault);
  const teacher = makeLooker(address, TEACHER_PACE, { teacher: teachers }, detection, ({ id, outputs, milliseconds }) => {
    const look = { ...looks.get(id), teacher: outputs.teacher, teacherTime: milliseconds };
    for (const other of looks.keys()) if (other <= id) looks.delete(other);
    onLook(look);
  }, onFault);
  return {
    setScene: students.setScene,
    // request: { items, blur, ... }; gives the look's id.
    look(request) {
      asked += 1;
      looks.set(asked, { request });
      students.look({ id: asked, items: request.items, blur: request.blur });
      return asked;
    },
    stop() {
      students.stop();
      teacher.stop();
      URL.revokeObjectURL(address);
    },
  };
}
