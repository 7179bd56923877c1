"use strict";

const figures = JSON.parse(document.getElementById("figures").textContent);
const touch = matchMedia("(pointer: coarse)").matches || innerWidth < 640;
const dark = matchMedia("(prefers-color-scheme: dark)");
const config = {
  responsive: true,
  displaylogo: false,
  displayModeBar: touch ? false : "hover",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
  doubleClick: touch ? false : "reset+autosize",
};

/** The theme's colours as plotly wants them: flat keys, so that they can be laid over any layout. */
function theme(layout) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const flat = {
    "font.color": color("--text"),
    "font.family": getComputedStyle(document.body).fontFamily,
    "font.size": 13,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    "modebar.bgcolor": "rgba(0,0,0,0)",
    "modebar.color": color("--quiet"),
    "modebar.activecolor": color("--accent"),
    "hoverlabel.bgcolor": color("--card"),
    "hoverlabel.bordercolor": color("--line"),
    "hoverlabel.font.color": color("--text"),
    "hoverlabel.font.size": 12,
    "hoverlabel.align": "left",
  };
  for (const axis of ["xaxis", "yaxis"]) {
    flat[`${axis}.gridcolor`] = color("--grid");
    flat[`${axis}.linecolor`] = color("--line");
    flat[`${axis}.zerolinecolor`] = color("--line");
  }
  (layout.annotations || []).forEach((_, i) => {
    flat[`annotations[${i}].bgcolor`] = color("--veil");
    flat[`annotations[${i}].font.color`] = color("--text");
  });
  return flat;
}

/** The gaps between bars have the colour of what lies behind them. */
function gaps(data) {
  const bars = data.flatMap((trace, i) => (trace.type === "bar" ? [i] : []));
  const color = getComputedStyle(document.documentElement).getPropertyValue("--card").trim();
  return [bars.length ? { "marker.line.color": color } : {}, bars];
}

async function paint(div) {
  const [style, bars] = gaps(div.data);
  await Plotly.update(div, style, theme(div.layout), bars.length ? bars : undefined);
}

async function drawAll() {
  for (const div of document.querySelectorAll(".plot")) {
    const { data, layout } = figures[div.dataset.figure];
    layout.autosize = true;
    if (touch) layout.margin.t = 10; // no buttons there
    layout.dragmode = touch ? false : "zoom"; // a finger that moves over a plot scrolls the page
    await Plotly.newPlot(div, data, layout, config);
    await paint(div);
    await new Promise((resolve) => setTimeout(resolve)); // the page stays alive while thousands of trials are drawn
  }
  document.documentElement.dataset.drawn = "true";
}

dark.addEventListener("change", () => {
  document.querySelectorAll(".plot").forEach(paint);
});

function compare(a, b, numeric, sign) {
  if (a === "" || b === "") return (a === "") - (b === ""); // empty cells last, whichever way
  return sign * (numeric ? Number(a) - Number(b) : a.localeCompare(b, undefined, { numeric: true }));
}

function sortBy(button) {
  const head = button.closest("th");
  const body = head.closest("table").tBodies[0];
  const column = head.cellIndex;
  const descending = head.getAttribute("aria-sort") === "ascending";
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const numeric = head.classList.contains("number");
  const rows = [...body.rows].map((row) => [row.cells[column].dataset.value, row]);
  rows.sort((a, b) => compare(a[0], b[0], numeric, descending ? -1 : 1));
  body.append(...rows.map(([, row]) => row));
}

async function copyFrom(button) {
  const source = document.getElementById(button.dataset.copy);
  const said = document.getElementById("copied");
  try {
    await navigator.clipboard.writeText(source.textContent);
    said.textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(source);
    said.textContent = document.execCommand("copy") ? "Copied." : "Selected: press Ctrl+C to copy.";
  }
}

/** A press on a legend's entry hides or shows what it names. */
function toggle(button) {
  const pressed = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", pressed);
  const div = document.querySelector(`.plot[data-figure="${button.dataset.of}"]`);
  Plotly.restyle(div, { visible: pressed }, JSON.parse(button.dataset.traces));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.matches("th button")) sortBy(button);
  if (button?.matches(".copy")) copyFrom(button);
  if (button?.matches(".legend button")) toggle(button);
});

drawAll();
