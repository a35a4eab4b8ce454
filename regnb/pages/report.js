const charts = [...document.querySelectorAll("figure > div")];
const heights = [];

// Plotly is packed: it is a third of its size that way, and what a report weighs is plotly.
const unpacked = async (packed) => {
  const bytes = Uint8Array.from(atob(packed.textContent.trim()), (sign) => sign.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};

const draw = async () => {
  const library = document.createElement("script");
  library.textContent = await unpacked(document.getElementById("plotly"));
  document.body.append(library);
  for (const chart of charts) {
    const { data, layout } = JSON.parse(await unpacked(chart.nextElementSibling));
    heights.push(layout.height);
    Plotly.newPlot(chart, data, layout, { displayModeBar: false, responsive: true });
  }
};

// A browser of before 2023 cannot unpack: then the page is what it is without scripts.
draw().catch(() => document.documentElement.classList.remove("scripted"));

// A sheet of A4 has 680 pixels between its margins, and less than a screen that scrolls from top to bottom.
const fit = (size) => {
  for (const [at, chart] of charts.entries()) if (heights[at]) Plotly.relayout(chart, size(heights[at]));
};
addEventListener("beforeprint", () => fit((height) => ({ width: 680, height: Math.min(height, 900) })));
addEventListener("afterprint", () => fit((height) => ({ width: null, autosize: true, height })));
