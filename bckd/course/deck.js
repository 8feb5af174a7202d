// Turns the slides: arrow keys, page keys, space, Home and End; "n" shows the notes.

const slides = [...document.querySelectorAll(".slide")];
const place = document.querySelector('[role="status"]');
const notes = document.querySelector("#notes");
let current = 0;

function show(number) {
  current = Math.min(Math.max(number, 0), slides.length - 1);
  slides.forEach((slide, n) => slide.classList.toggle("current", n === current));
  place.textContent = `${current + 1} / ${slides.length}`;
  history.replaceState(null, "", `#${current + 1}`);
  slides[current].querySelector("h2").focus({ preventScroll: true });
  scrollTo(0, 0);
}

function toggleNotes() {
  const shown = document.body.classList.toggle("with-notes");
  notes.setAttribute("aria-pressed", shown);
}

const KEYS = {
  ArrowRight: () => show(current + 1),
  ArrowDown: () => show(current + 1),
  PageDown: () => show(current + 1),
  " ": () => show(current + 1),
  ArrowLeft: () => show(current - 1),
  ArrowUp: () => show(current - 1),
  PageUp: () => show(current - 1),
  Home: () => show(0),
  End: () => show(slides.length - 1),
  n: toggleNotes,
};

document.addEventListener("keydown", (event) => {
  const act = KEYS[event.key];
  const pressesButton = event.key === " " && event.target instanceof HTMLButtonElement;
  if (!act || pressesButton || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
});
document.querySelector("#back").addEventListener("click", () => show(current - 1));
document.querySelector("#on").addEventListener("click", () => show(current + 1));
notes.addEventListener("click", toggleNotes);
addEventListener("hashchange", () => show(Number(location.hash.slice(1)) - 1));

document.body.classList.add("turning");
show((Number(location.hash.slice(1)) || 1) - 1);
