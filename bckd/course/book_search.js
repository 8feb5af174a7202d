// Finds the sections that hold every word, best first.

const AT_MOST = 50; // results shown
const AROUND = 90; // characters of text before and after the first word found

const sections = JSON.parse(document.querySelector('script[type="application/json"]').textContent);

/** Finds words that begin with one of these, whatever their case. */
function beginning(...words) {
  const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`(?<![\\p{L}\\p{N}])(${escaped.join("|")})`, "giu");
}

const count = (text, pattern) => (text.match(pattern) ?? []).length;

/** How often the words stand in a section, a heading's counting tenfold; 0 if one is missing. */
function score(section, patterns) {
  let sum = 0;
  for (const pattern of patterns) {
    const heading = count(`${section.heading} ${section.page}`, pattern) > 0 ? 10 : 0;
    const text = Math.min(count(section.text, pattern), 10);
    if (heading + text === 0) return 0;
    sum += heading + text;
  }
  return sum;
}

/** The text around the first word found, with every one marked. */
function excerpt(text, words) {
  const pattern = beginning(...words);
  const start = Math.max(0, text.search(pattern) - AROUND);
  const paragraph = document.createElement("p");
  paragraph.append(start > 0 ? "… " : "");
  text.slice(start, start + 3 * AROUND).split(pattern).forEach((piece, n) => {
    if (n % 2 === 0) return paragraph.append(piece);
    const mark = document.createElement("mark");
    mark.textContent = piece;
    paragraph.append(mark);
  });
  return paragraph;
}

function result(section, words) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  link.href = section.address;
  link.textContent = section.heading;
  const where = document.createElement("p");
  where.className = "where";
  where.textContent = section.page;
  item.append(link, where, excerpt(section.text, words));
  return item;
}

function search(text) {
  const words = text.split(/\s+/).filter(Boolean);
  const patterns = words.map((word) => beginning(word));
  const found = words.length
    ? sections
        .map((section) => [score(section, patterns), section])
        .filter(([points]) => points > 0)
        .sort(([a], [b]) => b - a)
    : [];
  const told = found.length === 1 ? "1 section" : `${found.length} sections`;
  document.querySelector('[role="status"]').textContent = words.length ? told : "";
  document
    .querySelector("ol")
    .replaceChildren(...found.slice(0, AT_MOST).map(([, section]) => result(section, words)));
}

const input = document.querySelector("input");
input.value = new URLSearchParams(location.search).get("words") ?? "";
input.addEventListener("input", () => search(input.value));
search(input.value);
