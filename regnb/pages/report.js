const charts = [...document.querySelectorAll("figure > div")];
const heights = charts.map(chart => {
  const {data, layout} = JSON.parse(chart.nextElementSibling.textContent);
  Plotly.newPlot(chart, data, layout, {displayModeBar: false, responsive: true});
  return layout.height;
});
// A sheet of A4 has 680 pixels between its margins, and less than a screen that scrolls from top to bottom.
addEventListener("beforeprint", () => charts.forEach((chart, at) =>
  Plotly.relayout(chart, {width: 680, height: Math.min(heights[at], 900)})));
addEventListener("afterprint", () => charts.forEach((chart, at) =>
  Plotly.relayout(chart, {width: null, autosize: true, height: heights[at]})));
