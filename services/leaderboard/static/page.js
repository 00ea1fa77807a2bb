// Optional: every page is complete without it. Sorts tables, and follows a running submission.
"use strict";
for (const table of document.querySelectorAll("table[data-sort]")) {
  table.tHead.rows[0].querySelectorAll("button[data-column]").forEach((button) => {
    button.addEventListener("click", (event) => {
      event.preventDefault();
      const column = Number(button.dataset.column);
      const down = button.getAttribute("aria-pressed") !== "true";
      const value = (row) => {
        const text = (row.cells[column].dataset.value ?? row.cells[column].textContent).trim();
        const number = Number.parseFloat(text);
        return Number.isNaN(number) ? text : number;
      };
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        const order = typeof x === typeof y ? (x > y) - (x < y) : typeof x === "number" ? 1 : -1;
        return down ? -order : order;
      });
      table.tBodies[0].append(...rows);
      table.querySelectorAll("button[data-column]").forEach((other) => other.setAttribute("aria-pressed", "false"));
      button.setAttribute("aria-pressed", String(down));
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
