"use strict";
// Filters and sorts the contact sheet; without this script the page shows the same content.
const byId = (id) => document.getElementById(id);
const sheet = byId("sheet"), filter = byId("filter"), sort = byId("sort"), matches = byId("matches");

if (sheet) {
  const cards = [...sheet.children];
  const words = new Map(cards.map((card) => [card, card.textContent.toLowerCase()]));

  // A term matches at the start of a word: 'hat' finds 'hat' and 'hats', not 'that'.
  const finder = (term) => new RegExp("(?<![\\p{L}\\p{N}])" + term.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "u");

  const show = () => {
    const terms = filter.value.toLowerCase().split(",").map((term) => term.trim()).filter(Boolean).map(finder);
    let count = 0;
    for (const card of cards) {
      card.hidden = !terms.every((term) => term.test(words.get(card)));
      count += !card.hidden;
    }
    matches.value = terms.length ? `${count} of ${cards.length}` : "";
  };

  const order = () => {
    const key = sort.value.replace("-", ""), sign = sort.value.startsWith("-") ? -1 : 1;
    const text = new Intl.Collator(undefined, { numeric: true });
    const compare = (a, b) => sign * text.compare(a.dataset[key], b.dataset[key]);
    const numbers = (a, b) => sign * (a.dataset[key] - b.dataset[key]);
    sheet.append(...(key ? cards.toSorted(key === "name" ? compare : numbers) : cards));
  };

  filter.addEventListener("input", show);
  sort.addEventListener("change", order);
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  byId("tools").hidden = false;

  for (const cell of document.querySelectorAll("[data-tag]")) {
    const button = document.createElement("button");
    button.textContent = cell.textContent;
    button.title = "Show the images with this tag";
    button.addEventListener("click", () => {
      filter.value = cell.dataset.tag;
      show();
      byId("images").scrollIntoView();
      filter.focus({ preventScroll: true });
    });
    cell.replaceChildren(button);
  }

  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      filter.focus();
    }
  });
}
