// The plots. The library lies in the page as text and is run once the answer shows.

function runLibrary() {
  const script = document.createElement('script');
  script.textContent = $('plotting').textContent;
  document.head.append(script);
}

const ready = () => typeof Plotly !== 'undefined';
const quiet = {displayModeBar: false, responsive: true, doubleClick: 'reset'};

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

function hover(point) {
  const a = architecture(point);
  const d = derived(a);
  return `<b>${show.loss(numbers.loss[point])} nats</b>  ${show.speed(
    numbers.decode_tokens_per_s[point])}<br>${show.bytes(numbers.memory_bytes[point])}, ` +
    `width ${a.d_model}, ${a.n_blocks} blocks${a.sharing > 1 ? ` × ${a.sharing}` : ''}<br>` +
    `MLP/attention ${d.ratio.toFixed(2)}, GQA group ${d.group}`;
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

// Whole numbers on a logarithmic axis crowd together towards its end.
function wholeTicks(values) {
  let last = 0;
  const kept = values.filter(value => value / last >= 1.24 && ((last = value), true));
  return {tickvals: kept, ticktext: kept.map(String)};
}

// What the plot shows: the front under the budgets, with some of what they keep out beside it.
function frame(current, chosen) {
  const rows = current.length ? current : wholeFront;
  const best = numbers.loss[rows[0]];
  // The fast end of a front is models nobody would ship; a quarter above the best loss is enough.
  const kept = rows.filter(row => numbers.loss[row] <= 1.25 * best);
  if (chosen >= 0) kept.push(chosen);
  const x = kept.map(row => Math.log10(numbers.decode_tokens_per_s[row]));
  const [left, right] = [Math.min(...x), Math.max(...x)];
  const wide = Math.max(right - left, 0.4);
  const low = Math.min(...kept.map(row => numbers.low[row]));
  const high = Math.max(...kept.map(row => numbers.high[row]));
  return {x: [left - 0.35 * wide, right + 0.06 * wide],
    y: [low - 0.28 * (high - low), high + 0.06 * (high - low)]};
}

// A front is a staircase of hundreds of steps; two hundred of them are all a screen can show.
function thinned(rows, most = 200) {
  if (rows.length <= most) return rows;
  const step = (rows.length - 1) / (most - 1);
  return Array.from({length: most}, (_, index) => rows[Math.round(index * step)]);
}

function named(given, c, window) {
  const rows = given.filter(row => {
    const x = Math.log10(row.decode);
    return x >= window.x[0] && x <= window.x[1] && row.loss >= window.y[0] && row.loss <= window.y[1];
  });
  const across = row => (Math.log10(row.decode) - window.x[0]) / (window.x[1] - window.x[0]);
  const near = (a, b) => Math.abs(across(a) - across(b)) < 0.1 &&
    Math.abs(a.loss - b.loss) < 0.08 * (window.y[1] - window.y[0]);
  rows.sort((a, b) => a.familiar - b.familiar || b.decode - a.decode);
  // Shapes that lie together share one label. Near-ties lie on the front and are named below it,
  // where the plot is empty; familiar shapes lie above it.
  const names = rows.map(() => []);
  rows.forEach((row, index) => {
    const leader = rows.findIndex(other => other.familiar === row.familiar && near(other, row));
    names[leader < 0 ? index : leader].push(row.why);
  });
  const places = rows.map(row => {
    const side = across(row) > 0.75 ? 'left' : row.familiar && across(row) > 0.2 ? 'center' : 'right';
    return `${row.familiar ? 'top' : 'bottom'} ${side}`;
  });
  const inks = rows.map(row => besideFits(row) ? c.warn : c.muted);
  const words = row => `${label(row.why)}${besideFits(row) ? '' : ', beyond these budgets'}<br>` +
    `<b>${show.loss(row.loss)} nats</b>  ${show.speed(row.decode)}, ${show.bytes(row.memory)}<br>` +
    label(inWords(row.architecture, row.bits));
  return {
    x: rows.map(row => row.decode), y: rows.map(row => row.loss), mode: 'markers+text',
    marker: {symbol: 'diamond', size: 9, color: c.panel, line: {color: inks, width: 1.8}},
    text: names.map(each => label(each.join(', '))), textposition: places, cliponaxis: false,
    textfont: {color: inks, size: 12}, hoverinfo: 'text', hovertext: rows.map(words),
  };
}

function plotFront(current, chosen) {
  if (!ready()) return;
  const c = colours();
  const speed = numbers.decode_tokens_per_s;
  const line = (rows, column) => rows.map(row => column[row]);
  const whole = thinned(wholeFront);
  const shown = thinned(current);
  const band = [...shown, ...shown.slice().reverse()];
  const window = frame(current, chosen);
  const traces = [
    {x: line(whole, speed), y: line(whole, numbers.loss), mode: 'lines', hoverinfo: 'skip',
      line: {color: c.table, width: 1.4, dash: 'dot'}},
    {x: line(band, speed), mode: 'lines', fill: 'toself', hoverinfo: 'skip',
      y: [...line(shown, numbers.low), ...line(shown.slice().reverse(), numbers.high)],
      fillcolor: c['accent-soft'], line: {width: 0}},
    {x: line(shown, speed), y: line(shown, numbers.loss), customdata: shown,
      mode: 'lines+markers', line: {color: c.accent, width: 2},
      marker: {size: 5, color: c.accent}, hoverinfo: 'text', hovertext: shown.map(hover)},
    named(data.beside, c, window),
  ];
  if (chosen >= 0) {
    traces.push({x: [speed[chosen]], y: [numbers.loss[chosen]], mode: 'markers',
      marker: {size: 15, color: c.accent, line: {color: c.panel, width: 3}}, hoverinfo: 'text',
      hovertext: [hover(chosen)]});
  }
  const limit = sliders.find(slider => slider.name === 'decode');
  const least = limit && limit.positions[limit.at];
  const shapes = least ? [{type: 'line', x0: least, x1: least, yref: 'paper', y0: 0, y1: 1,
    line: {color: c.muted, width: 1, dash: 'dash'}}] : [];
  Plotly.react($('front'), traces, layout(c, {
    shapes,
    xaxis: axis(c, 'decode, tokens per second', {type: 'log', ...ticks(window.x), range: window.x}),
    yaxis: axis(c, 'loss, nats per token', {range: window.y}),
  }), quiet);
}

function plotCurves(chosen) {
  if (!ready() || !curvesWanted) return;
  const c = colours();
  data.curves.filter(curve => !curve.silent).forEach(curve => {
    const at = chosen < 0 ? null : axisValue(curve.axis, chosen);
    const outside = curve.seen ? [
      {type: 'rect', yref: 'paper', x0: curve.x[0], x1: curve.seen[0], y0: 0, y1: 1,
        fillcolor: c.line, opacity: 0.6, line: {width: 0}, layer: 'below'},
      {type: 'rect', yref: 'paper', x0: curve.seen[1], x1: curve.x.at(-1), y0: 0, y1: 1,
        fillcolor: c.line, opacity: 0.6, line: {width: 0}, layer: 'below'},
    ].filter(box => box.x0 < box.x1) : [];
    const marker = at === null ? [] : [{type: 'line', x0: at, x1: at, yref: 'paper', y0: 0, y1: 1,
      line: {color: c.accent, width: 1.6}}];
    // What lies far beyond the law's range must not set the scale of what lies within it.
    const inside = curve.x.map((x, index) => index).filter(index => !curve.seen ||
      (curve.x[index] >= 0.8 * curve.seen[0] && curve.x[index] <= 1.25 * curve.seen[1]));
    const rows = inside.length > 2 ? inside : curve.x.map((x, index) => index);
    const low = Math.min(...rows.map(index => curve.low[index]), 0);
    const high = Math.max(...rows.map(index => curve.high[index]), 0.001);
    const most = Math.max(high, -low);
    const ends = [Math.log10(curve.x[0]), Math.log10(curve.x.at(-1))];
    Plotly.react($(`curve-${curve.axis}`), [
      {x: [...curve.x, ...curve.x.slice().reverse()], mode: 'lines', fill: 'toself',
        y: [...curve.low, ...curve.high.slice().reverse()], hoverinfo: 'skip',
        fillcolor: c['accent-soft'], line: {width: 0}},
      {x: curve.x, y: curve.loss, mode: curve.whole ? 'lines+markers' : 'lines',
        line: {color: c.accent, width: 2}, marker: {size: 6, color: c.accent},
        hovertemplate: '%{x:.3g}: %{y:+.4f} nats<extra></extra>'},
    ], layout(c, {
      shapes: [...outside, ...marker],
      xaxis: axis(c, '', {type: 'log', showgrid: false,
        range: [ends[0] - (curve.whole ? 0.04 : 0), ends[1] + (curve.whole ? 0.04 : 0)],
        ...(curve.whole ? wholeTicks(curve.x) : ticks(ends, 7))}),
      yaxis: axis(c, '', {nticks: 5, range: [low - 0.1 * (high - low), high + 0.1 * (high - low)],
        tickformat: most < 0.05 ? '+.3f' : '+.2f'}),
    }), quiet);
  });
}

function axisValue(name, point) {
  const a = architecture(point);
  const d = derived(a);
  return {width_ratio: d.width, mlp_attention_ratio: d.ratio, gqa_group: d.group,
    sharing: a.sharing}[name];
}
