"use strict";
// Without this script the page holds the same; with it the contact sheet can be filtered and sorted.
const byId = (id) => document.getElementById(id);
const sheet = byId("sheet"), filter = byId("filter"), sort = byId("sort"), told = byId("told");

if (sheet) {
  const cards = [...sheet.children];
  const words = new Map(cards.map((card) => [card, card.textContent.toLowerCase()]));

  // A term counts where a word begins with it: 'hat' finds 'hat' and 'hats', not 'that'.
  const finder = (term) => new RegExp("(?<![\\p{L}\\p{N}])" + term.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "u");

  const show = () => {
    const terms = filter.value.toLowerCase().split(",").map((term) => term.trim()).filter(Boolean).map(finder);
    let count = 0;
    for (const card of cards) {
      card.hidden = !terms.every((term) => term.test(words.get(card)));
      count += !card.hidden;
    }
    told.value = terms.length ? `${count} of ${cards.length}` : "";
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
    button.title = "Show its pictures";
    button.addEventListener("click", () => {
      filter.value = cell.dataset.tag;
      show();
      byId("pictures").scrollIntoView();
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
