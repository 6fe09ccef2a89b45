{% include "theme.js" %}
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Contents: the section in view is marked.
  const links = new Map(all("nav.contents a").map((link) => [link.hash.slice(1), link]));
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  all("section[id]").forEach((section) => watch.observe(section));

  // Tables that sort: numbers by value, names by the reader's language; a second press turns the order around.
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    const body = table.tBodies[0];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const numeric = column > 0;
      const down = head.getAttribute("aria-sort") === (numeric ? "descending" : "ascending") ? !numeric : numeric;
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => numeric ? Number(row.cells[column].dataset.value) : row.cells[column].textContent.trim();
      const order = (a, b) => numeric ? value(a) - value(b) : value(a).localeCompare(value(b), undefined, { numeric: true });
      body.append(...[...body.rows].sort((a, b) => (down ? order(b, a) : order(a, b))));
    }));
  }

  // Selectors: one for the run, one for the subset. A run offers its own subsets; the subset is kept where both have it.
  for (const group of all("[data-select]")) {
    const [byRun, bySubset] = all("select", group);
    const panels = all("[data-run]", document.getElementById(group.dataset.select));
    const show = () => {
      const own = panels.filter((panel) => panel.dataset.run === byRun.value);
      if (bySubset) {
        const keys = own.map((panel) => panel.dataset.subset);
        const wanted = keys.includes(bySubset.value) ? bySubset.value : keys[0];
        bySubset.replaceChildren(...keys.map((key) => new Option(key, key, false, key === wanted)));
      }
      for (const panel of panels) panel.hidden = !own.includes(panel) || (bySubset && panel.dataset.subset !== bySubset.value);
    };
    byRun.addEventListener("change", show);
    bySubset?.addEventListener("change", show);
    show();
  }

  // Curves read out under the pointer, or with the arrow keys.
  for (const chart of all(".curve")) {
    const { plot: [left, top, right, bottom, width, height, epochs], unit, rows } = JSON.parse(chart.dataset.chart);
    const readout = chart.parentElement.querySelector(".readout");
    const hair = document.createElement("div");
    hair.className = "hair";
    hair.hidden = true;
    chart.append(hair);
    let at = rows.length - 1;
    const figure = (value) => value === null ? "none" : value.toFixed(unit ? 1 : 3) + unit;
    const tell = (index) => {
      at = Math.max(0, Math.min(rows.length - 1, index));
      const [epoch, training, validation] = rows[at];
      const scale = chart.clientWidth / width;
      hair.hidden = false;
      hair.style.left = `${(left + (right - left) * (epoch - 1) / (epochs - 1)) * scale}px`;
      hair.style.top = `${top * scale}px`;
      hair.style.height = `${(bottom - top) * scale}px`;
      readout.textContent = `Epoch ${epoch}: training ${figure(training)}, validation ${figure(validation)}`;
    };
    const clear = () => { hair.hidden = true; readout.textContent = ""; };
    const nearest = (event) => {
      const x = (event.clientX - chart.getBoundingClientRect().left) * width / chart.clientWidth;
      const epoch = 1 + (x - left) / (right - left) * (epochs - 1);
      return rows.reduce((best, row, i) => Math.abs(row[0] - epoch) < Math.abs(rows[best][0] - epoch) ? i : best, 0);
    };
    chart.addEventListener("pointermove", (event) => tell(nearest(event)));
    chart.addEventListener("pointerdown", (event) => tell(nearest(event)));
    chart.addEventListener("pointerleave", clear);
    chart.addEventListener("focus", () => tell(at));
    chart.addEventListener("blur", clear);
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      tell(at + step);
    });
  }

  // Confusion matrices read out under the pointer.
  for (const box of all(".matrix")) {
    const { width, margin, cell, rows } = JSON.parse(box.dataset.matrix);
    const counts = rows.split(";").map((row) => row.split(",").map(Number));
    const names = JSON.parse(document.getElementById(box.dataset.names).textContent);
    const readout = box.closest("figure").querySelector(".readout");
    const drawing = box.querySelector("svg");
    const idle = readout.textContent;
    const tell = (event) => {
      const area = drawing.getBoundingClientRect();
      const scale = width / area.width;
      const [column, row] = [event.clientX - area.left, event.clientY - area.top].map((d) => Math.floor((d * scale - margin) / cell));
      const line = counts[row];
      if (!line || line[column] === undefined) { readout.textContent = idle; return; }
      const total = line.reduce((sum, count) => sum + count, 0);
      const part = total ? ` (${(100 * line[column] / total).toFixed(1)} %)` : "";
      readout.textContent = `True ${names[row]}, predicted ${names[column]}: ${line[column]} of ${total}${part}`;
    };
    drawing.addEventListener("pointermove", tell);
    drawing.addEventListener("pointerdown", tell);
    drawing.addEventListener("pointerleave", () => { readout.textContent = idle; });
  }
})();
