// What the stops pick. Every combination of stops was asked of the search when the page was made;
// the page looks answers up and never computes one.

const question = data.answer;
const NOTHING = -1;
const BEYOND = -2;

const titles = {
  memory: 'Memory', decode: 'Decode speed', ttft: 'First token', energy: 'Energy per token',
};

const shapes = question && {
  ...question.shapes,
  fields: unpackedAll(question.shapes.fields, Int32Array),
  total: unpacked(question.shapes.total, Float64Array),
  flopsPerToken: unpacked(question.shapes.flops_per_token, Float64Array),
};
const trainings = question && question.trainings.map(each => ({
  ...unpackedAll({tokens: each.tokens, loss: each.loss}, Float64Array),
  ...unpackedAll({low: each.low, high: each.high}, Float32Array),
  pairs: unpacked(each.gaps.pairs, Uint32Array), ends: unpacked(each.gaps.ends, Float32Array),
  beyond: each.beyond,
}));
const servings = question && question.servings.map(each => {
  const rows = unpacked(each.rows, Uint16Array);
  const place = new Map(Array.from(rows, (shape, index) => [shape, index]));
  return {...each, place,
    ...unpackedAll({middle: each.middle, low: each.low, high: each.high, seconds: each.seconds,
      bytes: each.bytes, flops: each.flops, memory: each.memory}, Float32Array),
    levels: unpacked(each.levels, Uint8Array)};
});
const budgets = question ? question.stops.budgets : [];
const COSTS = ['memory_bytes', 'decode_tokens_per_s', 'ttft_s', 'energy_per_token_j'];

function filled(runs) {
  const values = unpacked(runs.values, Uint16Array);
  const lengths = unpacked(runs.lengths, Uint16Array);
  const table = new Int16Array(lengths.reduce((sum, length) => sum + length, 0));
  let at = 0;
  values.forEach((value, index) => {
    table.fill(value + BEYOND, at, at + lengths[index]);
    at += lengths[index];
  });
  return table;
}

const pickTable = question && filled(question.stops.picks);
const familiarTable = question && filled(question.stops.familiar);
const familiarFits = question && filled(question.stops.familiar_fits);

// --- where the sliders stand ------------------------------------------------------------------------

const batches = question ? [...new Set(question.stops.servings.map(each => each.batch))] : [];
const contexts = question ? [...new Set(question.stops.servings.map(each => each.context))] : [];
const servingOf = (batch, context) => question.stops.servings.findIndex(
  each => each.batch === batch && each.context === context);

function asked() {
  const serving = question.stops.servings[question.stops.asked_serving];
  return {...Object.fromEntries(budgets.map(each => [each.name, each.asked])),
    training: question.stops.training.asked, batch: batches.indexOf(serving.batch),
    context: contexts.indexOf(serving.context)};
}

const state = question ? asked() : {};
const isAsked = () => Object.entries(asked()).every(([name, at]) => state[name] === at);
const servingNow = (at = state) => servingOf(batches[at.batch], contexts[at.context]);

function looked(table, at) {
  let index = servingNow(at) * trainings.length + at.training;
  for (const budget of budgets) index = index * budget.values.length + at[budget.name];
  return table[index];
}

const pickAt = (at = state) => looked(pickTable, at);

// The familiar choice under the same budgets; where none fits, the one that comes closest.
const familiarAt = (at = state) =>
  ({shape: looked(familiarTable, at), fits: looked(familiarFits, at) > 0});

// What a tighter or looser speed would be answered with, all else as it stands: slowest first.
function alternatives() {
  const speed = budgets.find(each => each.name === 'decode');
  if (!speed) return [];
  const rows = [];
  speed.values.forEach((limit, stop) => {
    const shape = pickAt({...state, decode: stop});
    if (shape < 0) return;
    const last = rows.at(-1);
    if (last && last.shape === shape) { last.last = stop; return; }
    rows.push({shape, stop, last: stop});
  });
  return rows;
}

// What would make something fit: each slider alone, moved as little as possible.
function remedies() {
  const found = [];
  for (const budget of budgets) {
    for (let at = state[budget.name] - 1; at >= 0; at--) {
      if (pickAt({...state, [budget.name]: at}) < 0) continue;
      found.push(`${titles[budget.name].toLowerCase()} to ${limitWords(budget, at)}`);
      break;
    }
  }
  return found;
}

// The loosest stop is no limit; of memory, what the device gives an application.
const isLimit = (budget, at = state[budget.name]) => at > 0;

function limitWords(budget, at = state[budget.name]) {
  if (isLimit(budget, at)) return showLimit[budget.name](budget.values[at]);
  return budget.values[0] ? `all of ${show.bytes(budget.values[0])}` : 'no limit';
}

// --- what is known of a shape -----------------------------------------------------------------------

// {column: [low, middle, high]} of a shape where the sliders stand; null where it was not costed.
function costsOf(point) {
  const serving = servings[servingNow()];
  const row = serving.place.get(point);
  if (row === undefined) return null;
  return Object.fromEntries(COSTS.map((name, index) => {
    const at = row * COSTS.length + index;
    return [name, [serving.low[at], serving.middle[at], serving.high[at]]];
  }));
}

// How many times as generous the budgets would have to be for a shape's middle costs to meet them.
function missOf(point) {
  const costs = costsOf(point);
  return Math.max(...budgets.map(budget => {
    const limit = budget.values[state[budget.name]], value = costs[budget.column][1];
    if (limit === null) return 0;
    return budget.at_least ? limit / value : value / limit;
  }));
}

// Share of the device's draws that meet each budget, and all of them together.
function probabilities(point) {
  const serving = servings[servingNow()];
  const row = serving.place.get(point);
  if (row === undefined) return null;
  const draws = question.draws;
  const each = Object.fromEntries(budgets.map(budget => [budget.name, 0]));
  let together = 0;
  for (let draw = 0; draw < draws; draw++) {
    let all = true;
    budgets.forEach((budget, index) => {
      const met = serving.levels[(row * draws + draw) * budgets.length + index] > state[budget.name];
      if (met) each[budget.name] += 1 / draws;
      else all = false;
    });
    if (all) together += 1 / draws;
  }
  return {...each, together};
}

// Expected loss of a shape less a familiar or named one's: {middle, low, high, better}. Pairs stand
// in ascending order.
function gap(point, other) {
  const {loss, pairs, ends} = trainings[state.training];
  const middle = loss[point] - loss[other];
  if (point === other) return {middle, low: middle, high: middle, better: 0};
  const wanted = point * shapes.n + other;
  let from = 0, to = pairs.length;
  while (from < to) {
    const at = (from + to) >> 1;
    if (pairs[at] < wanted) from = at + 1;
    else to = at;
  }
  if (pairs[from] !== wanted) throw new Error(`no pair ${point}, ${other}`);
  const [low, high, better] = ends.subarray(3 * from, 3 * from + 3);
  return {middle, low, high, better};
}

function architecture(point) {
  const fields = {};
  for (const name of Object.keys(shapes.fields)) fields[name] = shapes.fields[name][point];
  return tidied(fields);
}

function tidied(fields) {
  fields.tied_embeddings = Boolean(fields.tied_embeddings);
  fields.input_injection = Boolean(fields.input_injection);
  fields.last_local = Boolean(fields.last_local);
  fields.sharing_order = fields.sharing_order ? 'cycle' : 'immediate';
  fields.window = fields.window || null;
  fields.global_every = fields.global_every || null;
  return fields;
}

const storedIn = point => shapes.formats[shapes.format[point]] || `${shapes.bits[point]}-bit weights`;

function derived(a) {
  const attention = 2 * a.d_model * a.head_dim * (a.n_heads + a.n_kv_heads);
  const mlp = 3 * a.d_model * a.d_ff;
  const block = attention + mlp + 2 * a.d_model;
  const inside = a.n_blocks * block + a.d_model;
  const shared = a.n_blocks - a.n_prelude - a.n_coda;
  const depth = a.n_prelude + a.n_coda + a.sharing * shared;
  return {
    ratio: mlp / attention, group: a.n_heads / a.n_kv_heads, depth, shared,
    inside, applied: depth * block + a.d_model,
  };
}

// --- the state in the address -----------------------------------------------------------------------

function stateWords() {
  const words = new Map();
  for (const budget of budgets) {
    const value = budget.values[state[budget.name]];
    words.set(budget.name, isLimit(budget) ? String(value) : 'none');
  }
  words.set(question.in_flops ? 'flops' : 'tokens',
    String(question.stops.training.values[state.training]));
  words.set('batch', String(batches[state.batch]));
  words.set('context', contexts[state.context] === null ? 'own' : String(contexts[state.context]));
  return words;
}

function fragment() {
  return isAsked() ? '' : [...stateWords()].map(([name, value]) => `${name}=${value}`).join('&');
}

// What an address asks for; a value that is no stop of this page is left as it stands.
function restore(text) {
  const wanted = new URLSearchParams(text.replace(/^#/, ''));
  Object.assign(state, asked());
  const place = (values, name) => {
    const value = wanted.get(name);
    if (value === null) return -1;
    if (value === 'none') return 0;
    if (value === 'own') return values.indexOf(null);
    return values.findIndex(each => each !== null && Math.abs(each / Number(value) - 1) < 1e-9);
  };
  const put = (name, at) => { if (at >= 0) state[name] = at; };
  for (const budget of budgets) put(budget.name, place(budget.values, budget.name));
  put('training', place(question.stops.training.values, question.in_flops ? 'flops' : 'tokens'));
  put('batch', place(batches, 'batch'));
  put('context', place(contexts, 'context'));
}

// The question where the sliders stand, as one types it.
function command() {
  const words = ['shapelaw', 'query', ...question.command];
  for (const budget of budgets) {
    if (!isLimit(budget)) continue;
    words.push(`--${budget.name}`,
      budget.name === 'decode' ? plain(budget.values[state.decode]).replace(/,/g, '')
        : showLimit[budget.name](budget.values[state[budget.name]]).replace(/[ ,]/g, '')
          .replace('µ', 'u'));
  }
  words.push(question.in_flops ? '--flops' : '--tokens',
    String(question.stops.training.values[state.training]));
  words.push('--batch', String(batches[state.batch]));
  if (contexts[state.context] !== null) words.push('--context', String(contexts[state.context]));
  return words.map(word => /^[\w.,:%+@/=-]+$/.test(word) ? word : `'${word.replace(/'/g, "'\\''")}'`)
    .join(' ');
}
