// The plots. The library lies in the page as text and is run once the answer shows.

function runLibrary() {
  const script = document.createElement('script');
  script.textContent = $('plotting').textContent;
  document.head.append(script);
}

const ready = () => typeof Plotly !== 'undefined';
const quiet = {displayModeBar: false, responsive: true, doubleClick: 'reset', showTips: false};

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = name => style.getPropertyValue(`--${name}`).trim();
  return Object.fromEntries(['ink', 'muted', 'line', 'accent', 'accent-soft', 'panel', 'table',
    'attention', 'mlp', 'warn'].map(name => [name, of(name)]));
}

// The library reads a little HTML in labels: text from a file must not be any.
function label(text) {
  return String(text).replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
}

function axis(c, title, more = {}) {
  return {title: {text: title, font: {size: 13, color: c.muted}, standoff: 8}, color: c.muted,
    gridcolor: c.line, zeroline: false, linecolor: c.line, tickfont: {size: 12},
    automargin: true, ...more};
}

function layout(c, more) {
  return {paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', showlegend: false,
    font: {family: 'system-ui, sans-serif', size: 13, color: c.ink}, dragmode: false,
    margin: {l: 8, r: 12, t: 8, b: 8}, hovermode: 'closest',
    hoverlabel: {bgcolor: c.panel, bordercolor: c.line, font: {color: c.ink, size: 13},
      align: 'left'}, ...more};
}

// Round numbers between two powers of ten, as many as a reader needs.
function ticks([low, high], most = 9) {
  for (const steps of [[1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]]) {
    const values = [];
    for (let power = Math.floor(low); power <= high; power++) {
      for (const step of steps) {
        const value = Number(`${step}e${power}`);
        if (Math.log10(value) >= low - 1e-9 && Math.log10(value) <= high + 1e-9) values.push(value);
      }
    }
    if (values.length <= most) return {tickvals: values, ticktext: values.map(plain)};
  }
  return {};
}

// Whole numbers on a logarithmic axis crowd together towards its end, which keeps its label: there
// the space has its wall.
function wholeTicks(values) {
  let last = Infinity;
  const kept = values.toReversed().filter(value => last / value >= 1.24 && ((last = value), true));
  return {tickvals: kept, ticktext: kept.map(String)};
}

// --- the front --------------------------------------------------------------------------------------

function hoverOf(point, gapTo) {
  const costs = costsOf(point);
  const a = architecture(point);
  const between = (name, words) => `${words(costs[name][1])} [${words(costs[name][0])}, ` +
    `${words(costs[name][2])}]`;
  return `<b>${briefly(a)}</b><br>${show.gap(gapTo.middle)} nats [${show.gap(gapTo.low)}, ` +
    `${show.gap(gapTo.high)}]<br>${between('decode_tokens_per_s', show.speed)}<br>` +
    `${show.bytes(costs.memory_bytes[1])}`;
}

function barsOf(rows, other) {
  const x = []; const y = []; const right = []; const left = []; const up = []; const down = [];
  for (const point of rows) {
    const [low, middle, high] = costsOf(point).decode_tokens_per_s;
    const difference = gap(point, other);
    x.push(middle); left.push(middle - low); right.push(high - middle);
    y.push(difference.middle); down.push(difference.middle - difference.low);
    up.push(difference.high - difference.middle);
  }
  return {x, y, left, right, up, down};
}

function trace(rows, other, colour, more) {
  const bars = barsOf(rows, other);
  const thin = {color: colour, thickness: 1, width: 0};
  return {x: bars.x, y: bars.y, customdata: rows, hoverinfo: 'text',
    hovertext: rows.map(point => hoverOf(point, gap(point, other))),
    error_x: {type: 'data', array: bars.right, arrayminus: bars.left, ...thin},
    error_y: {type: 'data', array: bars.up, arrayminus: bars.down, ...thin}, ...more};
}

// What is this many nats worse than the best is no alternative to it, and would set the scale of
// all others: the table alone has it. A choice of legibility.
const FAR = 1;

function nearRows(rows, familiar) {
  const heights = rows.map(row => gap(row.shape, familiar).middle);
  const near = rows.filter((row, index) => heights[index] <= Math.min(...heights) + FAR);
  return near.length > 2 ? near : rows;
}

// Labels that would lie on one another are left to hovering.
function apart(rows, other, [x0, x1], [y0, y1]) {
  const placed = [];
  return rows.map(row => {
    const x = (Math.log10(costsOf(row).decode_tokens_per_s[1]) - x0) / (x1 - x0);
    const y = (gap(row, other).middle - y0) / (y1 - y0);
    const free = x >= 0 && x <= 1 && y >= 0 && y <= 1 &&
      placed.every(([a, b]) => Math.abs(a - x) > 0.17 || Math.abs(b - y) > 0.06);
    if (free) placed.push([x, y]);
    return free;
  });
}

// Names stand off the stairs, towards the free corner below them.
function names(inside, named, familiar, c, x, y) {
  return inside.flatMap((point, index) => {
    if (!named[index]) return [];
    const at = Math.log10(costsOf(point).decode_tokens_per_s[1]);
    const value = gap(point, familiar).middle;
    const right = at > x[0] + 0.6 * (x[1] - x[0]);
    const low = value < y[0] + 0.15 * (y[1] - y[0]);
    return [{x: at, y: value, text: label(nameOf(point)), font: {color: c.warn, size: 12},
      showarrow: true, arrowhead: 0, arrowwidth: 1, arrowcolor: c.warn, standoff: 5,
      ax: right ? -24 : 24, ay: low ? -44 : 44, xanchor: right ? 'right' : 'left', bgcolor: c.panel}];
  });
}

function plotFront(all, pick, chosen) {
  if (!ready() || !all.length) return;
  const c = colours();
  const familiar = familiarAt().shape;
  const rows = nearRows(all, familiar);
  const current = rows.filter(row => row.last >= state.decode).map(row => row.shape);
  const looser = rows.filter(row => row.last < state.decode).map(row => row.shape);
  const bars = barsOf([...looser, ...current], familiar);
  const known = knownRows().map(row => row.shape);
  const finite = [...bars.x.map((x, index) => x - bars.left[index]),
    ...bars.x.map((x, index) => x + bars.right[index])].filter(value => value > 0);
  // A speed is what the budget asks for, so the axis starts where the slowest answer's bar does.
  const span = [Math.log10(Math.min(...finite)), Math.log10(Math.max(...finite))];
  const x = [span[0] - 0.03 * (span[1] - span[0]) - 0.01, span[1] + 0.03 * (span[1] - span[0]) + 0.01];
  const low = Math.min(0, ...bars.y.map((y, index) => y - bars.down[index]));
  // Bars of the fastest shapes reach far up; the dots set the scale, and bars end at the frame.
  const top = Math.max(0, ...bars.y);
  const high = Math.min(Math.max(0, ...bars.y.map((y, index) => y + bars.up[index])),
    top + 0.4 * (top - low));
  const y = [low - 0.06 * (high - low), high + 0.06 * (high - low)];
  const inside = known.filter(point => {
    const at = Math.log10(costsOf(point).decode_tokens_per_s[1]);
    const value = gap(point, familiar).middle;
    return point !== familiar && at >= x[0] && at <= x[1] && value >= y[0] && value <= y[1];
  });
  const named = apart(inside, familiar, x, y);
  const traces = [
    trace(looser, familiar, c.table, {mode: 'markers', marker: {size: 6, color: c.table}}),
    trace(current, familiar, c.accent, {mode: 'lines+markers', opacity: 0.95,
      line: {color: c.accent, width: 1.4, shape: 'hv'}, marker: {size: 7, color: c.accent}}),
    {x: inside.map(point => costsOf(point).decode_tokens_per_s[1]),
      y: inside.map(point => gap(point, familiar).middle), mode: 'markers',
      marker: {symbol: 'diamond-open', size: 9, color: c.warn}, hoverinfo: 'text',
      hovertext: inside.map(point => `${label(nameOf(point))}<br>${hoverOf(point, gap(point, familiar))}`)},
  ];
  for (const [point, size] of [[pick, 15], [chosen, 12]]) {
    if (point === null || point < 0) continue;
    traces.push({x: [costsOf(point).decode_tokens_per_s[1]], y: [gap(point, familiar).middle],
      mode: 'markers', marker: {size, color: point === pick ? c.accent : c.panel,
        line: {color: point === pick ? c.panel : c.accent, width: 3}}, customdata: [point],
      hoverinfo: 'text', hovertext: [hoverOf(point, gap(point, familiar))]});
  }
  const limit = budgets.find(each => each.name === 'decode');
  const lines = [{type: 'line', xref: 'paper', x0: 0, x1: 1, y0: 0, y1: 0,
    line: {color: c.muted, width: 1, dash: 'dot'}}];
  if (isLimit(limit)) {
    lines.push({type: 'line', yref: 'paper', y0: 0, y1: 1, x0: limit.values[state.decode],
      x1: limit.values[state.decode], line: {color: c.ink, width: 1, dash: 'dash'}});
  }
  Plotly.react($('front'), traces, layout(c, {
    shapes: lines, annotations: names(inside, named, familiar, c, x, y),
    xaxis: axis(c, 'decode, tokens per second', {type: 'log', ...ticks(x, 8), range: x}),
    yaxis: axis(c, 'nats against the familiar choice', {range: y, nticks: 7, tickformat: '+.2f'}),
  }), quiet);
}

// --- what shape does --------------------------------------------------------------------------------

const studyInks = ['#c77c1e', '#4a6fb3', '#8a5fa8', '#a13d22', '#5c8a3a', '#7a6a4f', '#2c8fb5', '#b5518c'];
const studyNames = [...new Set(data.curves.flatMap(curve => curve.studies.map(each => each.name)))];
const inkOf = name => studyInks[studyNames.indexOf(name) % studyInks.length];
let curvesWanted = false;

function plotCurves(pick) {
  if (!ready() || !curvesWanted) return;
  const c = colours();
  data.curves.filter(curve => !curve.silent).forEach(curve => {
    const box = (x0, x1) => ({type: 'rect', yref: 'paper', x0, x1, y0: 0, y1: 1,
      fillcolor: c.line, opacity: 0.5, line: {width: 0}, layer: 'below'});
    const outside = curve.seen
      ? [box(curve.x[0], curve.seen[0]), box(curve.seen[1], curve.x.at(-1))]
        .filter(each => each.x0 < each.x1) : [];
    const at = pick === null || pick < 0 ? curve.here : axisValue(curve.axis, pick);
    const marker = {type: 'line', x0: at, x1: at, yref: 'paper', y0: 0, y1: 1,
      line: {color: c.accent, width: 1.6}};
    // What lies far beyond the law's range must not set the scale of what lies within it.
    const rows = curve.x.map((x, index) => index).filter(index => !curve.seen ||
      (curve.x[index] >= 0.8 * curve.seen[0] && curve.x[index] <= 1.25 * curve.seen[1]));
    const shown = rows.length > 2 ? rows : curve.x.map((x, index) => index);
    const heights = curve.studies.flatMap(study => {
      const offset = middleGap(curve, study.points);
      return study.points.map(each => each[1] - offset);
    }).sort((a, b) => a - b);
    const share = part => heights.length ? heights[Math.round(part * (heights.length - 1))] : 0;
    const low = Math.min(...shown.map(index => curve.low[index]), share(0.03), 0);
    const high = Math.max(...shown.map(index => curve.high[index]), share(0.97), 0.001);
    const y = [low - 0.1 * (high - low), high + 0.1 * (high - low)];
    const ends = [Math.log10(curve.x[0]), Math.log10(curve.x.at(-1))];
    const pad = curve.whole ? 0.04 : 0;
    const points = curve.studies.map(study => {
      // A study has a level of its own: its points are shown about the curve's middle.
      const offset = middleGap(curve, study.points);
      const many = study.points.length > 60;
      return {x: study.points.map(each => each[0]), y: study.points.map(each => each[1] - offset),
        mode: 'markers', hoverinfo: 'text', cliponaxis: true,
        hovertext: study.points.map(each => `${label(study.name)}: ` +
          `${each[2]} ${each[2] === 1 ? 'run' : 'runs'}`),
        marker: {size: many ? 4 : study.points.map(each => 5 + 1.5 * Math.log2(each[2])),
          color: inkOf(study.name), opacity: many ? 0.35 : 0.8}};
    });
    Plotly.react($(`curve-${curve.axis}`), [
      {x: [...curve.x, ...curve.x.slice().reverse()], mode: 'lines', fill: 'toself',
        y: [...curve.low, ...curve.high.slice().reverse()], hoverinfo: 'skip',
        fillcolor: c['accent-soft'], line: {width: 0}},
      ...points,
      {x: curve.x, y: curve.loss, mode: curve.whole ? 'lines+markers' : 'lines',
        line: {color: c.accent, width: 2}, marker: {size: 6, color: c.accent},
        hovertemplate: '%{x:.3g}: %{y:+.4f} nats<extra></extra>'},
    ], layout(c, {
      shapes: [...outside, marker],
      xaxis: axis(c, '', {type: 'log', showgrid: false, range: [ends[0] - pad, ends[1] + pad],
        ...(curve.whole ? wholeTicks(curve.x) : ticks(ends, 7))}),
      yaxis: axis(c, '', {nticks: 5, range: y,
        tickformat: Math.max(high, -low) < 0.05 ? '+.3f' : '+.2f'}),
    }), quiet);
  });
}

function middleGap(curve, points) {
  const gaps = points.map(([x, y]) => y - interpolated(curve, x)).sort((a, b) => a - b);
  return gaps[Math.floor(gaps.length / 2)];
}

function interpolated(curve, x) {
  let at = curve.x.findIndex(each => each >= x);
  if (at <= 0) at = 1;
  const [x0, x1] = [Math.log(curve.x[at - 1]), Math.log(curve.x[at])];
  const share = (Math.log(x) - x0) / (x1 - x0);
  return curve.loss[at - 1] + share * (curve.loss[at] - curve.loss[at - 1]);
}

function axisValue(name, point) {
  const a = architecture(point);
  const d = derived(a);
  return {depth: d.depth, mlp_attention_ratio: d.ratio, gqa_group: d.group,
    sharing: a.sharing}[name];
}

// --- the runs ---------------------------------------------------------------------------------------

// Round numbers at even steps: for a logarithmic axis of less than a decade.
function even([low, high]) {
  const [from, to] = [10 ** low, 10 ** high];
  if (to / from > 6) return ticks([low, high], 7);
  const rough = (to - from) / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map(each => each * power).find(each => each >= rough);
  const values = [];
  for (let at = Math.ceil(from / step); at * step <= to; at++) values.push(at * step);
  return {tickvals: values, ticktext: values.map(plain)};
}

function plotParity() {
  const given = data.law.parity;
  if (!ready() || !given || !$('parity')) return;
  const c = colours();
  // Both axes are the same: what lies on the line was predicted.
  const low = Math.log10(Math.min(...given.predicted, ...given.observed));
  const high = Math.log10(Math.max(...given.predicted, ...given.observed));
  const range = [low - 0.03 * (high - low), high + 0.03 * (high - low)];
  const size = given.n.map(Math.log10);
  const ends = range.map(value => 10 ** value);
  Plotly.react($('parity'), [
    {x: ends, y: ends, mode: 'lines', line: {color: c.muted, width: 1}, hoverinfo: 'skip'},
    {x: given.predicted, y: given.observed, mode: 'markers', hoverinfo: 'text',
      hovertext: given.n.map((n, index) => `${show.count(n)} parameters, ` +
        `${show.count(given.tokens[index])} tokens<br>predicted ${given.predicted[index]} ` +
        `[${given.low[index]}, ${given.high[index]}]<br>observed ${given.observed[index]}`),
      marker: {size: 5, color: size, colorscale: 'Viridis', opacity: 0.8}},
  ], layout(c, {
    xaxis: axis(c, 'predicted loss', {type: 'log', ...even(range), range, constrain: 'domain'}),
    yaxis: axis(c, 'observed loss', {type: 'log', ...even(range), range, scaleanchor: 'x',
      constrain: 'domain'}),
  }), quiet);
}
