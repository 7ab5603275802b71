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

  const hint = (box) => box.classList.toggle("more", box.scrollWidth - box.clientWidth - box.scrollLeft > 4);
  const seen = new ResizeObserver((entries) => entries.forEach((entry) => hint(entry.target)));
  for (const box of document.querySelectorAll(".wide")) {
    seen.observe(box);
    box.addEventListener("scroll", () => hint(box), { passive: true });
  }

  const hover = document.getElementById("hover");
  const hide = () => {
    hover.style.display = "none";
    for (const line of document.querySelectorAll(".cursor")) line.style.visibility = "hidden";
  };
  const element = (name, text) => Object.assign(document.createElement(name), { textContent: text });
  const show = (event) => {
    hide();
    const chart = event.target.closest && event.target.closest("svg.chart");
    if (!chart) return;
    chart.readings ??= JSON.parse(chart.dataset.readings);
    const box = chart.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * chart.viewBox.baseVal.width;
    const reading = chart.readings.reduce((best, one) => Math.abs(one.x - x) < Math.abs(best.x - x) ? one : best);
    const line = chart.querySelector(".cursor");
    line.setAttribute("x1", reading.x);
    line.setAttribute("x2", reading.x);
    line.style.visibility = "visible";
    const view = chart.closest("figure").dataset.view;
    const rows = reading.rows.filter((row) => row[view]).sort((a, b) => b[view][0] - a[view][0]);
    const table = document.createElement("table");
    for (const row of rows) {
      const line = table.insertRow(), name = line.insertCell(), swatch = element("span", "");
      swatch.className = "swatch";
      swatch.style.background = row.color;
      name.append(swatch, row.selector);
      line.insertCell().textContent = row[view][1];
    }
    hover.replaceChildren(element("strong", reading.title), table);
    hover.style.display = "block";
    const right = event.pageX + 14 + hover.offsetWidth < scrollX + root.clientWidth;
    hover.style.left = `${Math.max(scrollX + 4, right ? event.pageX + 14 : event.pageX - 14 - hover.offsetWidth)}px`;
    hover.style.top = `${event.pageY + 14}px`;
  };
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);

  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const figure = button.closest("figure");
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", on);
      for (const part of figure.querySelectorAll(".selector")) {
        if (part.dataset.selector === button.dataset.selector) part.classList.toggle("lit", on);
      }
      figure.classList.toggle("chosen", figure.querySelector('.legend [aria-pressed="true"]') !== null);
    });
  }
  for (const button of document.querySelectorAll(".views button")) {
    button.addEventListener("click", () => {
      button.closest("figure").dataset.view = button.dataset.view;
      for (const other of button.parentElement.children) other.setAttribute("aria-pressed", other === button);
    });
  }
})();
