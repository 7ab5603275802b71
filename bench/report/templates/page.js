"use strict";
(() => {
  const root = document.documentElement;
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.getElementById("theme").addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; });

  const number = /^[<>±]?\s*([-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?)/i;
  const key = (cell) => {
    const text = cell.textContent.trim();
    const match = number.exec(text);
    return match ? Number(match[1].replaceAll(",", "")) : text === "" ? null : text.toLowerCase();
  };
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
    return typeof a === "number" ? -1 : 1;
  };
  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const head = button.parentElement, body = head.closest("table").tBodies[0];
      const falling = head.getAttribute("aria-sort") === "ascending";
      for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const rows = [...body.rows].map((row) => [key(row.cells[head.cellIndex]), row]);
      rows.sort(([a], [b]) => (a === null || b === null || !falling) ? compare(a, b) : compare(b, a));
      body.append(...rows.map(([, row]) => row));
    });
  }

  const hover = document.getElementById("hover");
  const show = (event) => {
    const label = event.target.dataset && event.target.dataset.label;
    if (!label) { hover.style.display = "none"; return; }
    hover.textContent = label;
    hover.style.display = "block";
    const left = Math.min(event.pageX + 12, scrollX + root.clientWidth - hover.offsetWidth - 8);
    hover.style.left = `${Math.max(scrollX + 4, left)}px`;
    hover.style.top = `${event.pageY + 14}px`;
  };
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);

  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const figure = button.closest("figure"), name = button.dataset.selector;
      const off = figure.dataset.lit === name;
      figure.dataset.lit = off ? "" : name;
      figure.classList.toggle("one-lit", !off);
      for (const part of figure.querySelectorAll(".selector")) part.classList.toggle("lit", part.dataset.selector === name);
    });
  }
})();
