// The page: sliders in, everything else out.

const wholeFront = front(false);
let pinned = null;
let curvesWanted = false;
let kind = 'time';
let order = {column: 'loss', down: false};

// --- sliders ---------------------------------------------------------------------------------------

function buildSliders() {
  for (const slider of sliders) {
    const id = `slider-${slider.name}`;
    const input = element('input', {type: 'range', id, min: 0, max: slider.positions.length - 1,
      step: 1, 'aria-describedby': `${id}-note`});
    const output = element('output', {for: id});
    const note = element('p', {id: `${id}-note`});
    input.addEventListener('input', () => {
      slider.at = Number(input.value);
      pinned = null;
      schedule();
    });
    Object.assign(slider, {input, output, note});
    $('sliders').append(element('div', {class: 'slider'},
      element('label', {for: id}, element('span', {}, limitTitles[slider.name]), output),
      input, note));
  }
}

function showSliders(pick) {
  for (const slider of sliders) {
    const limit = slider.positions[slider.at];
    const words = limit === null ? 'no limit'
      : `${slider.at_least ? 'at least' : 'at most'} ${showLimit[slider.name](limit)}`;
    slider.input.value = slider.at;
    slider.input.dataset.limit = limit === null ? '' : limit;
    slider.input.setAttribute('aria-valuetext', words);
    slider.output.textContent = limit === null ? 'no limit'
      : `${slider.at_least ? '≥' : '≤'} ${showLimit[slider.name](limit)}`;
    slider.output.className = limit === null ? 'off' : '';
    const at = `${100 * slider.at / (slider.positions.length - 1)}%`;
    slider.input.style.setProperty('--at', at);
    const [allowed, barred] = ['var(--accent)', 'var(--track)'];
    slider.input.style.setProperty('--from', slider.at_least ? barred : allowed);
    slider.input.style.setProperty('--to', slider.at_least ? allowed : barred);
    const gain = limit === null || pick < 0 ? null : stepGain(slider, pick);
    slider.note.className = gain ? 'bites' : '';
    slider.note.textContent = gain || (limit === null || pick < 0 ? '' : 'not binding here');
  }
}

// What the next looser position would buy.
function stepGain(slider, pick) {
  const next = looser(slider);
  if (next === null) return null;
  const other = choose(slider, next);
  const limit = slider.positions[next];
  const place = limit === null ? 'no limit' : showLimit[slider.name](limit);
  if (data.goal === 'loss') {
    const gain = numbers.loss[pick] - numbers.loss[other];
    return gain > 0 ? `${place} would buy ${gain.toFixed(4)} nats` : null;
  }
  const gain = numbers.decode_tokens_per_s[other] - numbers.decode_tokens_per_s[pick];
  return gain > 0 ? `${place} would buy ${show.speed(gain)}` : null;
}

// --- the pick --------------------------------------------------------------------------------------

function showPick(point, pick) {
  $('infeasible').hidden = pick >= 0;
  $('chosen').hidden = point < 0;
  $('copy').hidden = point < 0;
  $('back').hidden = pinned === null;
  $('pick-title').textContent = pinned === null ? 'The pick' : 'Another shape of the front';
  if (pick < 0) {
    const ways = remedies();
    $('infeasible').textContent = 'Nothing in this space fits these budgets. ' +
      (ways.length ? `Relax ${ways.join(', or ')}.` : 'No single budget alone would help.');
  }
  if (point < 0) return;
  const a = architecture(point);
  const d = derived(a);
  const energy = numbers.energy_per_token_j[point];
  const percent = Math.round(100 * data.level);
  const rows = [
    ['Loss', show.loss(numbers.loss[point]), 'nats',
      `${percent} % of runs in ${show.loss(numbers.low[point])} to ${show.loss(numbers.high[point])}`],
    ['Decode', ...split(show.speed(numbers.decode_tokens_per_s[point])),
      data.points.resources ? `scarce: ${data.points.resources[scarce[point]]}` : ''],
    ['First token', ...split(show.seconds(numbers.ttft_s[point])),
      `after ${data.workload.prompt.toLocaleString('en')} tokens`],
    ['Memory', ...split(show.bytes(numbers.memory_bytes[point])), 'weights, KV cache, engine'],
    ['Energy', ...split(Number.isFinite(energy) ? show.joules(energy) : 'unknown'),
      Number.isFinite(energy) ? 'per decoded token' : 'not measured on this device'],
    ['Parameters', ...split(show.count(totalParameters[point])),
      `${show.count(d.applied)} applied to a token`],
  ];
  $('figures').replaceChildren(...rows.map(([name, number, unit, under]) => element('div', {},
    element('dt', {}, name), element('dd', {}, number, ' ', element('small', {}, unit)),
    element('dd', {class: 'under'}, under))));
  $('words').textContent = inWords(a, numbers.bits[point]);
  drawStack(a);
  drawBlock(a);
  const beyond = Object.keys(extrapolated).filter(axis => extrapolated[axis][point] > 1)
    .map(axis => `${axis} ${Number(extrapolated[axis][point].toPrecision(2))}×`);
  $('remarks').textContent =
    `Trained on ${show.count(numbers.tokens[point])} tokens, ` +
    `${numbers.training_flops[point].toExponential(2).replace('e+', 'e')} FLOPs.` +
    (beyond.length ? ` The law is asked beyond what it saw: ${beyond.join(', ')}.` : '') +
    (asAsked() && pinned === null && data.goal === 'loss'
      ? ` Best in ${Math.round(100 * data.probability_best)} % of the law's draws.` : '');
}

function split(text) {
  const at = text.indexOf(' ');
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

const asAsked = () => sliders.every(slider => slider.at === slider.start);

// --- where it goes ---------------------------------------------------------------------------------

const table = name => data.points[name] ? unpacked(data.points[name], Float32Array) : null;
const scarce = data.points.scarce ? unpacked(data.points.scarce, Int32Array) : null;
const parts = Object.fromEntries(['seconds', 'bytes_moved', 'bytes_cached', 'flops', 'joules',
  'memory'].map(name => [name, table(name)]));

const kinds = [
  {name: 'time', title: 'Time', columns: ['seconds'], show: show.seconds, of: 'one decoded token'},
  {name: 'bytes', title: 'Bytes', columns: ['bytes_moved', 'bytes_cached'], show: show.bytes,
    of: 'read for one decoded token; lighter where a cache serves them'},
  {name: 'operations', title: 'Operations', columns: ['flops'], show: show.operations,
    of: 'one decoded token'},
  {name: 'energy', title: 'Energy', columns: ['joules'], show: show.joules, of: 'one decoded token'},
  {name: 'memory', title: 'Memory', columns: ['memory'], show: show.bytes, of: 'held at the end'},
].filter(({columns}) => parts[columns[0]] && Number.isFinite(parts[columns[0]][0]));

function buildKinds() {
  if (!kinds.length) $('cost-section').hidden = true;
  kinds.forEach((each, index) => {
    const button = element('button', {type: 'button', role: 'radio'}, each.title);
    button.addEventListener('click', () => { kind = each.name; showCost(); });
    button.addEventListener('keydown', event => {
      const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
      if (!step) return;
      event.preventDefault();
      kind = kinds[(index + step + kinds.length) % kinds.length].name;
      showCost();
      $('cost-kinds').querySelector('[aria-checked=true]').focus();
    });
    each.button = button;
    $('cost-kinds').append(button);
  });
}

function showCost() {
  for (const each of kinds) {
    each.button.setAttribute('aria-checked', each.name === kind);
    each.button.tabIndex = each.name === kind ? 0 : -1;
  }
  const point = shownPoint();
  const using = kinds.find(each => each.name === kind);
  if (!using || point < 0) { $('cost').replaceChildren(); return; }
  const names = using.name === 'memory' ? data.points.memory_parts : data.points.parts;
  const columns = using.columns.map(name =>
    parts[name].subarray(point * names.length, (point + 1) * names.length));
  const rows = names.map((name, index) => [name, ...columns.map(column => column[index])]);
  const sum = row => row.slice(1).reduce((total, value) => total + value, 0);
  const total = rows.reduce((all, row) => all + sum(row), 0);
  const most = Math.max(...rows.map(sum));
  const lines = rows.filter(row => sum(row) > 0).sort((a, b) => sum(b) - sum(a)).map(row => {
    const fills = row.slice(1).map((value, index) => {
      const fill = element('span', {class: `fill ${colourOf(row[0])}`});
      fill.style.width = `${100 * value / most}%`;
      if (index) fill.style.opacity = 0.45;
      return fill;
    });
    const space = element('span', {class: 'space'}, ...fills);
    space.style.display = 'flex';
    return barRow(row[0], space, using.show(sum(row)), sum(row) / total);
  });
  const last = barRow('Together', element('span', {class: 'muted small'}, using.of),
    using.show(total), 1);
  last.classList.add('total');
  $('cost').replaceChildren(...lines, last);
}

function barRow(name, middle, number, share) {
  return element('div', {class: 'bar'}, element('span', {}, name), middle,
    element('span', {class: 'number'}, number, ' ',
      element('span', {class: 'muted share'}, `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`)));
}

function colourOf(part) {
  if (/attention|KV/.test(part)) return 'attention';
  if (/MLP/.test(part)) return 'mlp';
  return /re-read/.test(part) ? 'accent' : '';
}

// --- the table -------------------------------------------------------------------------------------

const columns = [
  ['loss', 'loss, nats', row => numbers.loss[row], row => show.loss(numbers.loss[row])],
  ['decode', 'decode, tok/s', row => numbers.decode_tokens_per_s[row],
    row => show.speed(numbers.decode_tokens_per_s[row]).replace(' tok/s', '')],
  ['ttft', 'first token', row => numbers.ttft_s[row], row => show.seconds(numbers.ttft_s[row])],
  ['memory', 'memory', row => numbers.memory_bytes[row],
    row => show.bytes(numbers.memory_bytes[row])],
  ['energy', 'J/token', row => numbers.energy_per_token_j[row],
    row => show.joules(numbers.energy_per_token_j[row])],
  ['parameters', 'parameters', row => totalParameters[row], row => show.count(totalParameters[row])],
  ['d_model', 'd_model', row => shape.d_model[row], row => shape.d_model[row]],
  ['blocks', 'blocks', row => shape.n_blocks[row], row => shape.n_blocks[row]],
  ['sharing', 'applied', row => shape.sharing[row], row => `${shape.sharing[row]}×`],
  ['heads', 'heads / KV', row => shape.n_heads[row],
    row => `${shape.n_heads[row]} / ${shape.n_kv_heads[row]}`],
  ['d_ff', 'd_ff', row => shape.d_ff[row], row => shape.d_ff[row]],
  ['ratio', 'MLP/attn', row => derived(architecture(row)).ratio,
    row => derived(architecture(row)).ratio.toFixed(2)],
  ['bits', 'bits', row => numbers.bits[row], row => numbers.bits[row]],
].filter(([name]) => name !== 'energy' || Number.isFinite(numbers.energy_per_token_j[0]));

function buildTable() {
  for (const [name, title] of columns) {
    const button = element('button', {type: 'button'}, title);
    button.addEventListener('click', () => {
      order = {column: name, down: order.column === name ? !order.down : false};
      showTable();
    });
    $('columns').append(element('th', {scope: 'col', 'data-column': name}, button));
  }
}

function showTable() {
  for (const head of $('columns').children) {
    if (head.dataset.column !== order.column) head.removeAttribute('aria-sort');
    else head.setAttribute('aria-sort', order.down ? 'descending' : 'ascending');
  }
  const value = columns.find(([name]) => name === order.column)[2];
  const rows = thinned(currentFront, 300);
  rows.sort((a, b) => (order.down ? -1 : 1) * (value(a) - value(b)) || a - b);
  const chosen = shownPoint();
  $('rows').replaceChildren(...rows.map(row => {
    const line = element('tr', {tabindex: 0, 'aria-selected': row === chosen, 'data-point': row},
      ...columns.map(([, , , text]) => element('td', {}, String(text(row)))));
    line.addEventListener('click', () => pin(row));
    line.addEventListener('keydown', event => {
      if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); pin(row); }
      const next = {ArrowDown: line.nextElementSibling, ArrowUp: line.previousElementSibling}[event.key];
      if (next) { event.preventDefault(); next.focus(); }
    });
    return line;
  }));
  $('table-note').textContent = `${currentFront.length} shapes` +
    (rows.length < currentFront.length ? `, ${rows.length} shown` : '') + '; choose one to look at it';
}

function pin(row) {
  pinned = row === choose() ? null : row;
  update(false);
}

// --- together --------------------------------------------------------------------------------------

let currentFront = [];
let waiting = false;
const shownPoint = () => pinned === null ? choose() : pinned;

function schedule() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; update(true); });
}

function update(moved) {
  const pick = choose();
  const point = shownPoint();
  if (moved) currentFront = front(true);
  showSliders(pick);
  showPick(point, pick);
  showCost();
  if (moved) showTable();
  else for (const line of $('rows').children) {
    line.setAttribute('aria-selected', Number(line.dataset.point) === point);
  }
  plotFront(currentFront, point);
  plotCurves(point);
  $('reset').disabled = asAsked();
  $('live').textContent = pick < 0 ? $('infeasible').textContent
    : `Pick: loss ${show.loss(numbers.loss[pick])}, ${inWords(architecture(pick), numbers.bits[pick])}`;
  // For whoever drives the page by a program: what a person reads off the screen.
  $('pick').dataset.architecture = pick < 0 ? '' : JSON.stringify(architecture(pick));
  $('pick').dataset.bits = pick < 0 ? '' : numbers.bits[pick];
}

async function copy() {
  const text = JSON.stringify(architecture(shownPoint()), null, 2);
  let done = false;
  try {
    await navigator.clipboard.writeText(text);
    done = true;
  } catch {
    // A page opened from a file may not have the clipboard: the old way needs a selection.
    const area = element('textarea', {class: 'hidden'});
    area.value = text;
    document.body.append(area);
    area.select();
    done = document.execCommand('copy');
    area.remove();
  }
  $('copy').textContent = done ? 'Copied' : 'Copying failed';
  setTimeout(() => { $('copy').textContent = 'Copy config'; }, 1600);
}

function buildPage() {
  $('device').textContent = data.device.title;
  const w = data.workload;
  $('setting').textContent = `Law ${data.law.label}. Workload ${w.name}: ` +
    `${w.prompt.toLocaleString('en')} tokens in, ${w.generated.toLocaleString('en')} out` +
    (w.turns > 1 ? `, ${w.turns} turns` : '') + (w.batch > 1 ? `, batch ${w.batch}` : '') + '.';
  $('space').textContent = data.exact
    ? `Each position answers as shapelaw query does over all ${data.space.size.toLocaleString('en')} ` +
      `shapes of space ${data.space.name}.`
    : `Space ${data.space.name} is too large to look at whole: sliders choose among the ` +
      `${count} shapes its search kept.`;
  $('front-note').textContent = 'band: where a run falls, ' +
    `${Math.round(100 * data.level)} %; dotted: without budgets`;
  $('curves-note').textContent = 'nats against the shape asked for, at equal stored parameters and ' +
    'tokens; grey: beyond what the law saw';
  for (const curve of data.curves.filter(each => !each.silent)) {
    $('curves').append(element('div', {}, element('h3', {}, curve.title),
      element('div', {class: 'plot', id: `curve-${curve.axis}`, role: 'img',
        'aria-label': `Loss against ${curve.title}`})));
  }
  const silent = data.curves.filter(each => each.silent).map(each => each.title);
  $('silent').textContent = silent.length ? `This law does not say what these do: ${silent.join('; ')}.` : '';
  $('warnings').replaceChildren(...data.warnings.map(text => element('li', {}, text)));
  $('certificate').textContent = `${count.toLocaleString('en')} shapes are in this page: ` +
    'every one that some position of the sliders picks' + (data.front_complete
      ? ', and every one of the front at each.' : '.') + (data.law.source ? ` Law: ${data.law.source}` : '');
  $('front').setAttribute('aria-label', 'Front of loss against decode speed; the table below holds it');
  buildSliders();
  buildKinds();
  buildTable();
  $('reset').addEventListener('click', () => {
    for (const slider of sliders) slider.at = slider.start;
    pinned = null;
    update(true);
  });
  $('back').addEventListener('click', () => { pinned = null; update(false); });
  $('copy').addEventListener('click', copy);
  update(true);
}

function startPlots() {
  runLibrary();
  plotFront(currentFront, shownPoint());
  $('front').on('plotly_click', event => {
    const row = event.points[0].customdata;
    if (row !== undefined) pin(row);
  });
  document.documentElement.dataset.ready = 'plots';
  // Curves are below the first screen: they can wait until it is painted.
  setTimeout(() => {
    curvesWanted = true;
    plotCurves(shownPoint());
  }, 60);
}

buildPage();
document.documentElement.dataset.ready = 'answer';
// A frame and a turn later: the answer is on the screen by then.
requestAnimationFrame(() => setTimeout(startPlots));
let width = window.innerWidth;
window.addEventListener('resize', () => {
  if (window.innerWidth !== width) schedule();
  width = window.innerWidth;
});
window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => update(false));
