const charts = [...document.querySelectorAll("figure > div")];
const heights = charts.map(chart => {
  const {data, layout} = JSON.parse(chart.nextElementSibling.textContent);
  Plotly.newPlot(chart, data, layout, {displayModeBar: false, responsive: true});
  return layout.height;
});
// A sheet of A4 has 680 pixels between its margins, and less than a screen that scrolls from top to bottom.
const fit = (size) => {
  for (const [at, chart] of charts.entries()) Plotly.relayout(chart, size(heights[at]));
};
addEventListener("beforeprint", () => fit((height) => ({ width: 680, height: Math.min(height, 900) })));
addEventListener("afterprint", () => fit((height) => ({ width: null, autosize: true, height })));
