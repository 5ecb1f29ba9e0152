"use strict";
// Marks live in the page alone until they are downloaded; a key is spelled as JSON in its button, so that every character survives.
const cards = [...document.querySelectorAll(".card")];
const byGroup = new Map();
for (const card of cards) {
  const group = card.closest("section");
  byGroup.set(group, [...(byGroup.get(group) || []), card]);
}
let saved = true;

const isDropped = (card) => card.getAttribute("aria-pressed") === "true";

function mark(card, drop) {
  card.setAttribute("aria-pressed", String(drop));
  card.querySelector(".mark b").textContent = drop ? "drop" : "keep";
}

function changed() {
  const dropped = cards.filter(isDropped).length;
  const emptied = [...byGroup.values()].filter((group) => group.every(isDropped)).length;
  const warning = emptied ? `; nothing is kept of ${emptied} ${emptied === 1 ? "group" : "groups"}` : "";
  document.querySelector("#count").textContent = `${dropped} of ${cards.length} pictures dropped${warning}`;
  document.querySelector("#save").disabled = dropped === 0;
  saved = dropped === 0;
}

for (const [group, members] of byGroup) {
  group.addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    if (!card) return;
    mark(card, !isDropped(card));
    changed();
  });
  group.addEventListener("keydown", (event) => {
    const card = event.target.closest(".card");
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
    if (step) {
      event.preventDefault();
      (cards[cards.indexOf(card) + step] || card).focus();
    } else if (event.key === "o" || event.key === "O") {
      for (const other of members) mark(other, other !== card);
      changed();
    }
  });
}

document.querySelector("#firsts").addEventListener("click", () => {
  for (const group of byGroup.values()) group.forEach((card, at) => mark(card, at > 0));
  changed();
});
document.querySelector("#clear").addEventListener("click", () => {
  for (const card of cards) mark(card, false);
  changed();
});
document.querySelector("#save").addEventListener("click", () => {
  const lines = cards.map((card) => `{"key": ${card.dataset.key}, "mark": "${isDropped(card) ? "drop" : "keep"}"}\n`);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines, { type: "application/x-ndjson" }));
  link.download = "marks.jsonl";
  link.click();
  URL.revokeObjectURL(link.href);
  saved = true;
});
window.addEventListener("beforeunload", (event) => {
  if (!saved) event.preventDefault();
});
changed();
