// The live lab's guided steps: each is a scene to look at, and one sentence on what to see.
// make(data): a patch of the state; the scenes' names and items are in data. Whether the sentences hold
// is under test.

const givenScene = ({ scenes }, n) => ({ scene: scenes[n].name, items: scenes[n].items, blur: 0, selected: null });
// The background of a given scene with other items.
const sceneWith = (data, n, items) => ({ ...givenScene(data, n), items });
const shapeOn = (data, name, place) => {
  const label = data.classes.indexOf(name);
  return newObject(label, data.units[label], place);
};

const LAB_STEPS = {
  ordinary: {
    text: "an ordinary scene",
    reading: "An ordinary scene. Read by sigmoid, BCKD has the least gap to the teacher; read by softmax, softmax KD "
      + "has: each student is near in the reading that it was taught in. Switch, and watch the gaps.",
    make: (data) => ({ ...givenScene(data, 0), reading: "sigmoid", class_name: null }),
  },
  alike: {
    text: "two look-alikes",
    reading: "A circle and a circle ring, and the map of the class circle: all four tell the two apart, labels alone "
      + "less surely, with a square too many. Scale the ring down: who loses its hole first?",
    make: (data) => ({
      ...sceneWith(data, 0, [
        shapeOn(data, "circle", { x: 38, y: 64, side: 30, turn: 0, colour: 2 }),
        shapeOn(data, "circle ring", { x: 90, y: 64, side: 30, turn: 0, colour: 2 })]),
      reading: "sigmoid", class_name: "circle",
    }),
  },
  empty: {
    text: "nothing there",
    reading: "Nothing is there, yet by softmax every place names a class: its shares must add up to 1. Switch to "
      + "sigmoid: all four fall silent, and softmax KD has the largest gap, for shares don\u2019t say how high scores are.",
    make: (data) => ({ ...sceneWith(data, 3, []), reading: "softmax", class_name: null }),
  },
  small: {
    text: "small and blurred",
    reading: "A square smaller than any that they were trained on, and out of focus: none of the four finds it at "
      + "this threshold. Sharpen the picture and enlarge the square: who finds it first?",
    make: (data) => ({
      ...sceneWith(data, 0, [
        shapeOn(data, "square", { x: 40, y: 44, side: 14, turn: 0.3, colour: 0 }),
        shapeOn(data, "triangle", { x: 90, y: 80, side: 40, turn: 0.5, colour: 2 })]),
      blur: 1.5, reading: "sigmoid", class_name: null,
    }),
  },
  clutter: {
    text: "clutter",
    reading: "Eight lines and spots that are no objects. All four find the square and the ring; the teacher and both "
      + "of its pupils take some clutter for shapes as well (dashed). Raise the threshold: which alarms go first?",
    make: (data) => ({
      ...sceneWith(data, 4, [
        ...Array.from({ length: 8 }, (_, n) => newClutter(n)),
        shapeOn(data, "circle ring", { x: 40, y: 44, side: 34, turn: 0.3, colour: 5 }),
        shapeOn(data, "square", { x: 88, y: 84, side: 36, turn: 0.5, colour: 2 })]),
      reading: "sigmoid", class_name: null,
    }),
  },
};
