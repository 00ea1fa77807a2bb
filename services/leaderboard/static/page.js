// Optional: every page is complete without it. Sorts tables, and follows a running submission.
"use strict";
for (const table of document.querySelectorAll("table[data-sort]")) {
  table.tHead.rows[0].querySelectorAll("button[data-column]").forEach((button) => {
    button.addEventListener("click", (event) => {
      event.preventDefault();
      const column = Number(button.dataset.column);
      const heading = button.closest("th");
      const best = table.dataset.sort; // the order that shows the best row first
      const other = best === "descending" ? "ascending" : "descending";
      const order = heading.ariaSort === best ? other : best;
      const sign = order === "descending" ? -1 : 1;
      const value = (row) => Number.parseFloat(row.cells[column].textContent.replace("\u2212", "-").replace("\u00b1", ""));
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // undefined last
        return sign * (x - y);
      });
      table.tBodies[0].append(...rows);
      table.querySelectorAll("th[aria-sort]").forEach((each) => each.removeAttribute("aria-sort"));
      heading.ariaSort = order;
    });
  });
}
const running = document.querySelector("[data-events]");
if (running && window.EventSource) {
  const source = new EventSource(running.dataset.events);
  source.addEventListener("state", (event) => {
    const state = JSON.parse(event.data);
    running.querySelector("[data-state]").textContent = state.state.replaceAll("_", " ");
    const bar = running.querySelector("progress");
    if (state.images_total) {
      bar.max = state.images_total;
      bar.value = state.images_done;
      running.querySelector("[data-images]").textContent =
        `${state.images_done.toLocaleString("en")} of ${state.images_total.toLocaleString("en")} images`;
    }
    const left = running.querySelector("[data-left]");
    left.textContent = state.seconds_left === null ? "" : `about ${Math.ceil(state.seconds_left / 60)} min left`;
  });
  source.addEventListener("ended", () => {
    source.close();
    setTimeout(() => location.reload(), 4000);
  });
}
