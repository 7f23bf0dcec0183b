// The page: sliders in, everything else out.

let kind = 'time';
let selected = null;
let shownRow = 0;

// --- sliders ---------------------------------------------------------------------------------------

// Sliders run from the lower value to the higher, whatever is tighter.
function controls() {
  const found = budgets.map(budget => {
    const n = budget.values.length;
    const flip = at => budget.at_least ? at : n - 1 - at;
    return {name: budget.name, title: titles[budget.name], n, budget,
      position: () => flip(state[budget.name]), put: at => { state[budget.name] = flip(at); },
      words: () => isLimit(budget)
        ? `${budget.at_least ? '≥' : '≤'} ${limitWords(budget)}` : limitWords(budget),
      end: at => isLimit(budget, flip(at)) ? limitWords(budget, flip(at))
        : budget.values[0] ? show.bytes(budget.values[0]) : 'no limit',
      value: () => isLimit(budget) ? budget.values[state[budget.name]] : ''};
  });
  const training = question.stops.training.values;
  const amount = value => question.in_flops ? `${Number(value.toPrecision(3))} FLOPs`
    : `${show.count(value)} tokens`;
  found.push({name: 'training', title: 'Training', n: training.length,
    position: () => state.training, put: at => { state.training = at; },
    words: () => amount(training[state.training]), end: at => amount(training[at]),
    value: () => training[state.training]});
  found.push({name: 'batch', title: 'Sequences at once', n: batches.length,
    position: () => state.batch, put: at => { state.batch = at; },
    words: () => String(batches[state.batch]), end: at => String(batches[at]),
    value: () => batches[state.batch]});
  const tokens = at => `${Math.round(contexts[at] ?? question.workload.context).toLocaleString('en')} tokens`;
  found.push({name: 'context', title: 'Context', n: contexts.length,
    position: () => state.context, put: at => { state.context = at; },
    words: () => tokens(state.context), end: tokens,
    value: () => contexts[state.context] ?? ''});
  return found.filter(each => each.n > 1);
}

const sliders = question ? controls() : [];

function buildSliders() {
  for (const slider of sliders) {
    const id = `slider-${slider.name}`;
    const input = element('input', {type: 'range', id, min: 0, max: slider.n - 1, step: 1,
      'aria-describedby': `${id}-note`});
    const output = element('output', {for: id});
    const note = element('span', {id: `${id}-note`, class: 'middle'});
    input.addEventListener('input', () => {
      slider.put(Number(input.value));
      schedule();
    });
    Object.assign(slider, {input, output, note});
    $('sliders').append(element('div', {class: 'slider'},
      element('label', {for: id}, element('span', {}, slider.title), output), input,
      element('div', {class: 'ends'}, element('span', {}, slider.end(0)), note,
        element('span', {}, slider.end(slider.n - 1)))));
  }
}

function showSliders(pick) {
  for (const slider of sliders) {
    const at = slider.position();
    slider.input.value = at;
    slider.input.dataset.limit = slider.value();
    slider.input.setAttribute('aria-valuetext', slider.words());
    slider.output.textContent = slider.words();
    slider.output.className = slider.budget && !isLimit(slider.budget) ? 'off' : '';
    slider.input.style.setProperty('--at', `${100 * at / (slider.n - 1)}%`);
    const up = slider.budget && slider.budget.at_least;
    slider.input.style.setProperty('--from', up ? 'var(--track)' : 'var(--accent)');
    slider.input.style.setProperty('--to', up ? 'var(--accent)' : 'var(--track)');
    const [words, bites] = slider.budget ? stepWords(slider.budget, pick)
      : [slider.name === 'training' ? trainingWords(pick) : '', false];
    slider.note.textContent = words;
    slider.note.className = `middle${bites ? ' bites' : ''}`;
  }
}

// What the next looser stop would buy.
function stepWords(budget, pick) {
  const at = state[budget.name];
  if (pick < 0 || !isLimit(budget)) return ['', false];
  const other = pickAt({...state, [budget.name]: at - 1});
  if (other < 0) return ['', false];
  const {loss} = trainings[state.training];
  const place = isLimit(budget, at - 1) ? limitWords(budget, at - 1) : 'no limit';
  if (question.target_loss !== null) {
    const [now, then] = [pick, other].map(point => costsOf(point).decode_tokens_per_s[1]);
    return then > now ? [`${place}: ${show.speed(then - now)} more`, true] : ['not binding', false];
  }
  const gained = loss[pick] - loss[other];
  return gained > 5e-4 ? [`${place}: ${show.gap(-gained)} nats`, true] : ['not binding', false];
}

function trainingWords(pick) {
  if (pick < 0) return '';
  const flops = flopsOf(pick);
  const {usd_per_hour: price, flop_per_hour: speed} = question.cost_of_training;
  return Number.isFinite(price) && price !== null ? show.money(flops / speed * price)
    : `${plain(Number((flops / speed).toPrecision(2)))} GPU-hours`;
}

const flopsOf = point => trainings[state.training].tokens[point] * shapes.flopsPerToken[point];

// --- the answer ------------------------------------------------------------------------------------

const nameOf = point => point >= shapes.picks + shapes.familiar
  ? shapes.names[point - shapes.picks - shapes.familiar]
  : `LLaMA-like ${briefly(architecture(point))}`;

function showPick(pick) {
  $('infeasible').hidden = pick >= 0;
  $('chosen').hidden = pick < 0;
  for (const id of ['copy-config']) $(id).hidden = pick < 0;
  if (pick === BEYOND) {
    $('infeasible').textContent = `Law ${data.law.label} would be asked too far beyond its runs ` +
      'here: shapelaw query lets another law judge. Copy the command to ask it.';
  } else if (pick < 0) {
    const ways = remedies();
    $('infeasible').textContent = 'Nothing in this space meets these budgets with probability ' +
      `${question.confidence}. ` +
      (ways.length ? `Relax ${ways.join(', or ')}.` : 'No single budget alone would help.');
  }
  if (pick < 0) return;
  const a = architecture(pick);
  const d = derived(a);
  const many = show.count(shapes.total[pick]);
  $('short').textContent = `${a.d_model} wide, ` +
    (a.sharing > 1 ? `${show.blocks(a.n_blocks)} stored, ${d.depth} layers deep`
      : `${a.n_blocks} ${a.n_blocks === 1 ? 'layer' : 'layers'}`) +
    `, ${many} parameters`;
  $('words').textContent = inWords(a, storedIn(pick));
  showVerdict(pick);
  showGauges(pick);
  drawStack(a);
  drawBlock(a);
  const training = trainings[state.training];
  const flops = flopsOf(pick);
  const {accelerator, utilisation, usd_per_hour: price, flop_per_hour: speed} = question.cost_of_training;
  const hours = flops / speed;
  $('remarks').textContent = `Training: ${show.count(training.tokens[pick])} tokens, ` +
    `${Number(flops.toPrecision(3)).toExponential().replace('e+', 'e')} FLOPs, ` +
    `${hours < 0.1 ? 'less than .1' : hours < 10 ? hours.toPrecision(2) : Math.round(hours).toLocaleString('en')} ` +
    'hours of one ' +
    `${accelerator.toUpperCase()} at ${Math.round(100 * utilisation)} % of its peak` +
    (price ? `, ${show.money(hours * price)}.` : '.') +
    (d.applied * 1.01 > d.inside && a.sharing > 1
      ? ` Each token passes ${show.count(d.applied)} parameters.` : '') +
    (training.beyond[pick] ? ` The law is asked beyond what it saw: ${training.beyond[pick]}.` : '');
}

function showVerdict(pick) {
  const familiar = familiarAt();
  const training = trainings[state.training];
  const difference = gap(pick, familiar.shape);
  const percent = Math.round(100 * data.level);
  const unit = element('small', {}, 'nats per token');
  if (question.target_loss !== null) {
    $('difference').replaceChildren(show.speed(costsOf(pick).decode_tokens_per_s[1]), ' ',
      element('small', {}, `the fastest that reaches a loss of ${plain(question.target_loss)}`));
  } else {
    $('difference').replaceChildren(show.gap(difference.middle), ' ', unit, ' ',
      element('small', {}, `[${show.gap(difference.low)}, ${show.gap(difference.high)}], ${percent} %`));
  }
  const level = question.level_known
    ? ` Expected loss ${training.loss[pick].toFixed(3)}; a run falls in ` +
      `${training.low[pick].toFixed(3)} to ${training.high[pick].toFixed(3)}.`
    : ' The law knows differences between shapes, not the level of loss on your corpus.';
  $('against').textContent = `against the familiar choice, ${nameOf(familiar.shape)}` +
    (familiar.fits ? ', the best of LLaMA\u2019s proportions under the same budgets'
      : ', which does not fit these budgets (none of LLaMA\u2019s proportions does; it comes closest)') +
    `: lower in ${show.share(difference.better)} of the law\u2019s draws.${level}`;
  const near = question.asked.near_best;
  const known = isAsked() && near !== null && question.target_loss === null;
  $('sure').textContent = known
    ? `${show.share(question.asked.near_best_confident)} to be within .01 nats of the best shape that ` +
      `keeps these budgets; ${show.share(near)} of the best that would fit, were the device known. ` +
      `Expected to give up ${question.asked.law_regret.toFixed(3)} nats for not knowing the law better ` +
      `and ${Math.max(question.asked.regret[0] - question.asked.law_regret, 0).toFixed(3)} more for not ` +
      `knowing the device; ${question.asked.regret[1].toFixed(3)} in the worst 5 % of draws.`
    : isAsked() ? 'How sure the choice is, is not known: the law has no draws.'
      : 'How sure the choice is, was computed for the question as asked; the command above asks it here.';
}

// Each budget with its figure, its interval and where the limit stands.
function showGauges(pick) {
  const costs = costsOf(pick);
  const chance = probabilities(pick);
  const cards = budgets.map(budget => gauge(budget, costs[budget.column], chance[budget.name]));
  if (!budgets.some(budget => budget.name === 'energy')) {
    cards.push(element('div', {class: 'gauge'}, element('div', {class: 'top'},
      element('span', {}, 'Energy per token'), element('b', {}, 'unknown')),
    element('div', {class: 'under'}, 'not measured on this device')));
  }
  const limited = budgets.filter(budget => isLimit(budget) || budget.values[0]);
  if (limited.length > 1) {
    cards.push(element('div', {class: 'gauge'}, element('div', {class: 'top'},
      element('span', {}, 'All budgets together'), element('b', {}, show.share(chance.together))),
    element('div', {class: 'under'}, `met in so many draws of the device; ` +
      `${plain(100 * question.confidence)} % was asked for`)));
  }
  $('budget-figures').replaceChildren(...cards);
}

function gauge(budget, [low, middle, high], chance) {
  const words = showBudget[budget.name];
  const limit = budget.values[state[budget.name]];
  const limited = limit !== null && limit !== 0;
  const most = 1.12 * Math.max(high, limited ? limit : 0);
  const at = value => `${Math.min(100, 100 * value / most)}%`;
  const part = (name, left, right) => {
    const made = element('span', {class: name});
    made.style.left = at(left);
    if (right !== undefined) made.style.width = `${Math.max(0, Math.min(100, 100 * (right - left) / most))}%`;
    return made;
  };
  const rule = element('div', {class: 'rule', 'aria-hidden': 'true'}, part('base', 0, most));
  if (limited) rule.append(budget.at_least ? part('allowed', limit, most) : part('allowed', 0, limit));
  rule.append(part('span', low, high), part('dot', middle));
  if (limited) rule.append(part('limit', limit));
  const asked = !limited ? 'no budget' : isLimit(budget)
    ? `${budget.at_least ? 'at least' : 'at most'} ${limitWords(budget)}: met with ${show.share(chance)}`
    : `within ${words(limit)}: met with ${show.share(chance)}`;
  return element('div', {class: 'gauge'},
    element('div', {class: 'top'}, element('span', {}, titles[budget.name]),
      element('b', {}, words(middle))), rule,
    element('div', {class: 'under'}, `${words(low)} to ${words(high)}; ${asked}`));
}

// --- where it goes ---------------------------------------------------------------------------------

const kinds = [
  {name: 'time', title: 'Time', column: 'seconds', show: show.seconds, of: 'one decoded token'},
  {name: 'bytes', title: 'Bytes', column: 'bytes', show: show.bytes, of: 'read for one decoded token'},
  {name: 'operations', title: 'Operations', column: 'flops', show: show.operations,
    of: 'one decoded token'},
  {name: 'memory', title: 'Memory', column: 'memory', show: show.bytes, of: 'held at the end'},
];

function buildKinds() {
  kinds.forEach((each, index) => {
    const button = element('button', {type: 'button', role: 'radio'}, each.title);
    button.addEventListener('click', () => { kind = each.name; showCost(pickAt()); });
    button.addEventListener('keydown', event => {
      const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
      if (!step) return;
      event.preventDefault();
      kind = kinds[(index + step + kinds.length) % kinds.length].name;
      showCost(pickAt());
      $('cost-kinds').querySelector('[aria-checked=true]').focus();
    });
    each.button = button;
    $('cost-kinds').append(button);
  });
}

function showCost(pick) {
  for (const each of kinds) {
    each.button.setAttribute('aria-checked', each.name === kind);
    each.button.tabIndex = each.name === kind ? 0 : -1;
  }
  $('cost-section').hidden = pick < 0;
  if (pick < 0) return;
  const serving = servings[servingNow()];
  const row = serving.place.get(pick);
  const using = kinds.find(each => each.name === kind);
  const names = using.name === 'memory' ? serving.memory_parts : serving.parts;
  const values = serving[using.column].subarray(row * names.length, (row + 1) * names.length);
  const rows = names.map((name, index) => [name, values[index]]);
  const total = rows.reduce((all, each) => all + each[1], 0);
  const most = Math.max(...rows.map(each => each[1]));
  const lines = rows.filter(each => each[1] > 0).sort((a, b) => b[1] - a[1]).map(([name, value]) => {
    const fill = element('span', {class: `fill ${colourOf(name)}`});
    fill.style.width = `${100 * value / most}%`;
    return barRow(name, element('span', {class: 'space'}, fill), using.show(value), value / total);
  });
  const last = barRow('Together', element('span', {class: 'muted small'}, using.of),
    using.show(total), 1);
  last.classList.add('total');
  $('cost').replaceChildren(...lines, last);
  const binding = budgets.filter(budget => isLimit(budget) && stepWords(budget, pick)[1])
    .map(budget => titles[budget.name].toLowerCase());
  // What the device gives cannot be loosened: it holds where the next tighter stop changes the pick.
  const memory = budgets.find(budget => budget.name === 'memory');
  if (memory && !isLimit(memory) && memory.values[0] && memory.values.length > 1 &&
    pickAt({...state, memory: 1}) !== pick) {
    binding.push('the memory that the device gives an application');
  }
  $('scarce').textContent = `A decoded token waits for ${serving.resources[serving.scarce[row]]}. ` +
    (binding.length ? `What holds the shape back: ${binding.join(' and ')}.`
      : 'No budget holds the shape back at these stops.');
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

// --- the alternatives ------------------------------------------------------------------------------

const columns = [
  ['speed asked for', row => row.words, 'text'],
  ['shape', row => row.button, 'text'],
  ['nats', row => show.gap(row.gap.middle)],
  ['90 %', row => `${show.gap(row.gap.low)} to ${show.gap(row.gap.high)}`],
  ['decode', row => show.speed(row.costs.decode_tokens_per_s[1])],
  ['first token', row => show.seconds(row.costs.ttft_s[1])],
  ['memory', row => show.bytes(row.costs.memory_bytes[1])],
  ['parameters', row => show.count(shapes.total[row.shape])],
  ['all met', row => show.share(row.chance.together)],
];

function buildTable() {
  for (const [title, , kindOf] of columns) {
    $('columns').append(element('th', {scope: 'col', ...(kindOf ? {class: kindOf} : {})}, title));
  }
}

function showTable(rows, pick) {
  const familiar = familiarAt().shape;
  const speed = budgets.find(each => each.name === 'decode');
  shownRow = Math.max(0, rows.findIndex(row => row.shape === pick));
  $('rows').replaceChildren(...rows.map((row, index) => {
    const a = architecture(row.shape);
    const from = limitWords(speed, row.stop);
    const words = !isLimit(speed, row.stop) && row.stop === row.last ? 'none'
      : row.stop === row.last ? from
        : `${isLimit(speed, row.stop) ? plain(speed.values[row.stop]) : '0'} to ${limitWords(speed, row.last)}`;
    const button = element('button', {type: 'button', tabindex: index === shownRow ? 0 : -1,
      'data-point': row.shape}, briefly(a));
    button.addEventListener('click', () => select(row.shape));
    button.addEventListener('keydown', event => {
      const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
      const next = step && $('rows').children[index + step]?.querySelector('button');
      if (!next) return;
      event.preventDefault();
      button.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
    const full = {...row, words, button, gap: gap(row.shape, familiar), costs: costsOf(row.shape),
      chance: probabilities(row.shape)};
    const line = element('tr', row.shape === pick ? {class: 'pick', 'aria-current': 'true'}
      : row.last < state.decode ? {class: 'unlike'} : {});
    for (const [, value, kindOf] of columns) {
      line.append(element('td', kindOf ? {class: kindOf} : {}, value(full)));
    }
    // Paper has no buttons, but shapes.
    button.parentElement.dataset.words = briefly(a);
    return line;
  }));
}

function select(point) {
  selected = point;
  showSelected();
  plotFront(alternatives(), pickAt(), selected);
}

function showSelected() {
  $('selected').hidden = selected === null;
  if (selected === null) return;
  const pick = pickAt();
  const a = architecture(selected);
  const {loss} = trainings[state.training];
  const against = selected === pick || pick < 0 ? 'the pick'
    : `${show.gap(loss[selected] - loss[pick])} nats against the pick`;
  const costs = costsOf(selected);
  const chance = probabilities(selected);
  $('selected-words').textContent = `${inWords(a, storedIn(selected))}: ${against}; ` +
    `${show.speed(costs.decode_tokens_per_s[1])}, ${show.bytes(costs.memory_bytes[1])}; meets ` +
    `these budgets with ${show.share(chance.together)}.`;
}

// Of every family the best member that fits, else the one that comes closest: the likeliest to,
// and of equally likely ones that which misses by least, as `query` has it.
function knownRows() {
  const first = shapes.picks + shapes.familiar, pick = pickAt();
  const format = pick >= 0 ? shapes.format[pick] : 0;
  const familiar = familiarAt();
  const found = [{shape: familiar.shape, fits: familiar.fits}];
  for (const family of new Set(shapes.families)) {
    const members = shapes.families.map((name, index) => [name, first + index])
      .filter(([name, shape]) => name === family && shapes.format[shape] === format)
      .map(([, shape]) => {
        const chance = probabilities(shape).together;
        return {shape, fits: chance >= question.confidence, chance,
          nats: gap(shape, familiar.shape).middle};
      });
    members.sort((a, b) => b.fits - a.fits || (a.fits ? a.nats - b.nats
      : b.chance - a.chance || missOf(a.shape) - missOf(b.shape)));
    found.push(members[0]);
  }
  return found;
}

function showKnown(pick) {
  $('known').replaceChildren(...knownRows().map(({shape, fits}) => {
    const difference = pick < 0 ? null : gap(pick, shape);
    const costs = costsOf(shape);
    const words = difference === null ? ''
      : `${show.gap(-difference.middle)} nats against the pick ` +
        `[${show.gap(-difference.high)}, ${show.gap(-difference.low)}]; `;
    const row = element('div', {}, element('b', {}, nameOf(shape)), element('span', {},
      `${fits ? '' : 'does not fit: '}${words}${show.speed(costs.decode_tokens_per_s[1])}, ` +
      `${show.bytes(costs.memory_bytes[1])}`));
    row.dataset.architecture = JSON.stringify(architecture(shape));
    row.dataset.fits = fits;
    return row;
  }));
}

// --- what would change it --------------------------------------------------------------------------

function buildDoubts() {
  const given = question.asked;
  const lines = [];
  const add = (title, text) => lines.push(element('p', {class: 'doubt'},
    element('b', {}, title), ' ', text));
  const of = each => `${briefly(each.architecture)}, ${show.speed(each.decode)}, ${show.bytes(each.memory)}`;
  for (const each of given.otherwise) {
    add(`${each.says[0].toUpperCase()}${each.says.slice(1)} (${show.share(each.probability)} of draws):`,
      `${of(each)} would be best, ${each.gain.toFixed(3)} nats better there; over all draws it is ` +
      `${Math.abs(each.cost).toFixed(3)} nats ${each.cost < 0 ? 'better' : 'worse'}.`);
  }
  if (given.equal) {
    const same = JSON.stringify(given.equal.architecture) === JSON.stringify(given.architecture);
    add(question.in_flops ? 'At equal tokens:' : 'At equal training FLOPs:', same ? 'the same shape.'
      : `${of(given.equal)} on ${show.count(given.equal.tokens)} tokens, ` +
      `${show.gap(given.equal.difference)} nats [${show.gap(given.equal.interval[0])}, ` +
      `${show.gap(given.equal.interval[1])}] against the pick.`);
  }
  for (const each of given.beside) {
    add(`${each.why[0].toUpperCase()}${each.why.slice(1)}:`, `${of(each)}, ${show.gap(each.difference)} ` +
      `nats [${show.gap(each.interval[0])}, ${show.gap(each.interval[1])}] against the pick.`);
  }
  for (const each of given.edges) {
    add('At the wall of the space:', `${each.axis} ${plain(each.value)}: ${minus(each.reason)}.`);
  }
  const worth = given.measurements.filter(each => each.value > 5e-4).slice(0, 3);
  for (const each of worth) {
    add('Worth measuring:', `${each.says}, which settles ${each.settles.replace(/^if /, 'whether ')}: ` +
      `${each.value.toFixed(3)} nats to be gained` +
      (each.kind === 'training' ? `, ${each.runs} runs, ${each.flops.toExponential(1).replace('e+', 'e')} FLOPs` +
        (each.usd ? `, about ${show.money(each.usd)}` : '') : '') + '.');
  }
  if (given.sources.length) {
    lines.push(element('details', {}, element('summary', {}, 'What each source says'),
      ...given.sources.map(each => element('p', {class: 'doubt'},
        element('b', {}, `${each.from}:`), ` ${each.says}.`))));
  }
  $('doubts').replaceChildren(...lines);
  $('doubt-section').hidden = !lines.length;
}

function showDoubtNote() {
  $('doubt-note').textContent = isAsked() ? '' :
    'Computed for the question as asked, not for where the sliders stand now.';
}

// --- the law ---------------------------------------------------------------------------------------

function numberWords(value) {
  return Math.abs(value) >= 1e5 || (Math.abs(value) < 1e-3 && value !== 0)
    ? value.toExponential(2).replace('e+', 'e') : String(Number(value.toPrecision(3)));
}

function tableOf(heads, rows, title) {
  const table = element('table', {},
    element('thead', {}, element('tr', {}, ...heads.map((head, index) =>
      element('th', {scope: 'col', class: index ? '' : 'text'}, head)))),
    element('tbody', {}, ...rows.map(row => element('tr', {}, ...row.map((cell, index) =>
      element('td', {class: index ? '' : 'text wrap'}, cell))))));
  return element('div', {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': title}, table);
}

function fold(title, ...content) {
  $('law').append(element('details', {}, element('summary', {}, title), ...content));
}

function buildLaw() {
  const law = data.law;
  $('law-note').textContent = `Law ${law.label}${law.form === 'study' ? '' : `, form ${law.form}`}` +
    `${law.runs ? `, fitted to ${law.runs} runs` : ''}${law.source ? `: ${law.source}` : ''}.`;
  if (law.parity) {
    $('law-note').textContent += ` Mean error ${(100 * law.parity.error).toFixed(2)} % of the loss; ` +
      `${Math.round(100 * law.parity.inside)} % of the losses inside the 90 % interval.`;
    const plot = element('div', {class: 'plot', id: 'parity', role: 'img',
      'aria-label': 'Observed against predicted loss of every run'});
    $('law').append(plot);
  }
  if (law.held_out?.length) {
    fold('Held out and predicted', tableOf(['held out', 'mean error', 'inside the 90 % interval'],
      law.held_out.map(each => [each.split, `${(100 * each.error).toFixed(2)} %`,
        typeof each.coverage === 'number' ? show.share(each.coverage) : '–']), 'Held-out errors'));
  }
  if (law.studies.length) {
    fold(`The ${law.studies.length} studies behind it`, tableOf(
      ['study', 'runs', 'parameters', 'tokens', 'tells shape', 'licence'],
      law.studies.map(each => [each.name, String(each.runs),
        `${show.count(each.N[0])} to ${show.count(each.N[1])}`,
        `${show.count(each.tokens[0])} to ${show.count(each.tokens[1])}`,
        each.tells_shape ? 'yes' : 'no', each.licence]), 'Studies'));
  }
  const ranges = Object.entries(law.range);
  if (ranges.length) {
    fold('What it saw', tableOf(['axis', 'from', 'to'],
      ranges.map(([axisName, [low, high]]) => [axisName, numberWords(low), numberWords(high)]),
      'Ranges'));
  }
  if (law.parameters.length) {
    fold('Its numbers', tableOf(['parameter', 'value', '90 %'], law.parameters.map(each => [each.name,
      numberWords(each.value), each.interval
        ? `${numberWords(each.interval[0])} to ${numberWords(each.interval[1])}` : '–']), 'Parameters'));
  }
}

function buildCurves() {
  const heard = data.curves.filter(each => !each.silent);
  $('curves-section').hidden = !heard.length;
  $('curves-note').textContent = `Nats against ${data.curves_at}, all else held. Line: expected; band: ` +
    `${Math.round(100 * data.level)} % of the law\u2019s draws; ` +
    (studyNames.length ? 'dots: runs, all else that they are taken away by the law of their own study, at its own level; ' : '') +
    'grey: beyond what the law saw' +
    (question ? '; upright line: where the pick stands.' : '.');
  for (const curve of heard) {
    $('curves').append(element('div', {}, element('h3', {}, curve.title),
      element('p', {class: 'small muted'}, curve.held),
      element('div', {class: 'plot', id: `curve-${curve.axis}`, role: 'img',
        'aria-label': `Loss against ${curve.title}`})));
  }
  for (const name of studyNames) {
    const dot = element('i');
    dot.style.background = inkOf(name);
    $('studies').append(element('span', {}, dot, name));
  }
  const silent = data.curves.filter(each => each.silent).map(each => each.title);
  $('silent').textContent = silent.length ? `This law does not say what these do: ${silent.join('; ')}.` : '';
}

// --- together --------------------------------------------------------------------------------------

let waiting = false;

function schedule() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; moved(); });
}

function moved() {
  selected = null;
  address();
  update();
}

// The address says where the sliders stand; as asked, it says nothing.
function address() {
  const wanted = fragment();
  if (window.location.hash.slice(1) === wanted) return;
  history.replaceState(null, '', wanted ? `#${wanted}` : '#');
}

function update() {
  const pick = pickAt();
  const rows = alternatives();
  showSliders(pick);
  showPick(pick);
  showCost(pick);
  $('front-section').hidden = !rows.length;
  showTable(rows, pick);
  showKnown(pick);
  showSelected();
  showDoubtNote();
  plotFront(rows, pick, selected);
  plotCurves(pick);
  $('reset').disabled = isAsked();
  $('live').textContent = pick < 0 ? $('infeasible').textContent
    : `Pick: ${inWords(architecture(pick), storedIn(pick))}`;
  // For whoever drives the page by a program: what a person reads off the screen.
  $('pick').dataset.architecture = pick < 0 ? '' : JSON.stringify(architecture(pick));
  $('pick').dataset.bits = pick < 0 ? '' : shapes.bits[pick];
}

async function copied(button, text) {
  const words = button.textContent;
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
  button.textContent = done ? 'Copied' : 'Copying failed';
  setTimeout(() => { button.textContent = words; }, 1600);
}

const configOf = point => JSON.stringify(shapes.configs[point], null, 2);

function buildQuestion() {
  const {device, workload: w, space} = question;
  $('title').textContent = `Which shape for ${device.title}?`;
  $('setting').textContent = `Workload ${w.name}: ` +
    `${w.prompt.toLocaleString('en')} tokens in, ${w.generated.toLocaleString('en')} out` +
    (w.turns > 1 ? `, ${w.turns} turns` : '') + `. Judged by law ${data.law.label}.`;
  $('space').textContent = question.exact
    ? `Every stop answers as shapelaw query does over all ${space.size.toLocaleString('en')} ` +
      `shapes of space ${space.name}.`
    : `Space ${space.name} is too large to look at whole: the stops choose among the shapes its ` +
      'search kept.';
  $('front-note').textContent = 'What each speed costs: every dot is what would be answered if that ' +
    'speed were asked for, all other budgets as they stand. Bars: ' +
    `${Math.round(100 * data.level)}\u00a0% of the draws of law and device. Dotted: the familiar choice; ` +
    'diamonds: models people know; dashed: the speed asked for; grey dots: slower than asked. ' +
    'Shapes a nat worse than the best stand in the table alone.';
  $('warnings').replaceChildren(...data.warnings.map(text => element('li', {}, text)));
  $('certificate').textContent = `${shapes.picks} shapes are in this page: every one that some stop ` +
    'of the sliders picks. The page asks nothing of any network.';
  $('front').setAttribute('aria-label', 'Loss against decode speed; the table below holds it');
  buildSliders();
  buildKinds();
  buildTable();
  buildDoubts();
  $('reset').addEventListener('click', () => { Object.assign(state, asked()); moved(); });
  $('copy-config').addEventListener('click', event => copied(event.currentTarget, configOf(pickAt())));
  $('copy-command').addEventListener('click', event => copied(event.currentTarget, command()));
  $('copy-link').addEventListener('click', event => copied(event.currentTarget, window.location.href));
  $('copy-selected').addEventListener('click', event => copied(event.currentTarget, configOf(selected)));
  window.addEventListener('hashchange', () => { restore(window.location.hash); moved(); });
  restore(window.location.hash);
  address();
}

function buildPage() {
  if (question) {
    buildQuestion();
  } else {
    $('title').textContent = `What shape does to the loss: ${data.law.label}`;
    $('main').classList.add('alone');
    for (const id of ['pick', 'controls', 'cost-section', 'front-section', 'doubt-section']) $(id).remove();
    document.querySelector('.skip').href = '#main';
    $('certificate').textContent = data.warnings.join(' ');
  }
  buildCurves();
  buildLaw();
  if (question) update();
}

const redraw = () => (question ? update() : plotCurves(null));

function startPlots() {
  runLibrary();
  if (question) {
    plotFront(alternatives(), pickAt(), null);
    $('front').on('plotly_click', event => {
      const point = event.points[0].customdata;
      if (point !== undefined && point < shapes.picks) select(point);
    });
  }
  document.documentElement.dataset.ready = 'plots';
  // Curves are below the first screen: they can wait until it is painted.
  setTimeout(() => {
    curvesWanted = true;
    plotCurves(question ? pickAt() : null);
    plotParity();
    document.documentElement.dataset.ready = 'curves';
  }, 60);
}

buildPage();
document.documentElement.dataset.ready = 'answer';
// A frame and a turn later: the answer is on the screen by then.
requestAnimationFrame(() => setTimeout(startPlots));
let width = window.innerWidth;
window.addEventListener('resize', () => {
  if (window.innerWidth !== width) requestAnimationFrame(redraw);
  width = window.innerWidth;
});
window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { redraw(); plotParity(); });
window.addEventListener('beforeprint', () => {
  for (const each of document.querySelectorAll('details')) each.open = true;
});
