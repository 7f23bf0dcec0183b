// Which shape the budgets pick. Points come in the order of choice: the first that fits is it.

const limitTitles = {
  memory: 'Memory', decode: 'Decode speed', ttft: 'Time to first token',
  energy: 'Energy per token', target_loss: 'Loss to reach',
};

// Positions run from the lowest value to the highest; "no limit" stands at the generous end.
const sliders = data.sliders.map(given => {
  // A page without the whole space knows nothing beyond the limits its search was given.
  const free = given.bounded ? [] : [null];
  const positions = given.at_least ? [...free, ...given.positions] : [...given.positions, ...free];
  const start = given.asked === null ? positions.indexOf(null) : positions.indexOf(given.asked);
  return {...given, positions, start, at: start, values: numbers[`bound:${given.column}`]};
});

function meets(slider, at, point) {
  const limit = slider.positions[at];
  if (limit === null) return true;
  return slider.at_least ? slider.values[point] >= limit : slider.values[point] <= limit;
}

function fits(point, moved = null, to = 0) {
  return sliders.every(slider => meets(slider, slider === moved ? to : slider.at, point));
}

// Whether a shape that stands beside the answer meets the budgets where they are now.
function besideFits(row) {
  return sliders.every(slider => {
    const limit = slider.positions[slider.at];
    const value = slider.name === 'target_loss' ? row.loss : row[slider.name];
    return limit === null || (slider.at_least ? value >= limit : value <= limit && value !== null);
  });
}

// Row of the pick, or -1 where nothing fits; with one slider moved elsewhere on request.
function choose(moved = null, to = 0) {
  for (let point = 0; point < count; point++) if (fits(point, moved, to)) return point;
  return -1;
}

function looser(slider) {
  const next = slider.at + (slider.at_least ? -1 : 1);
  return next >= 0 && next < slider.positions.length ? next : null;
}

// Points that no other fitting point beats in both loss and decode speed, by rising loss.
function front(within) {
  const speed = numbers.decode_tokens_per_s;
  const rows = [];
  for (let point = 0; point < count; point++) if (!within || fits(point)) rows.push(point);
  rows.sort((a, b) => numbers.loss[a] - numbers.loss[b] || speed[b] - speed[a]);
  let fastest = -Infinity;
  return rows.filter(point => speed[point] > fastest && ((fastest = speed[point]), true));
}

// What would make something fit: each slider alone, moved as little as possible.
function remedies() {
  const found = [];
  for (const slider of sliders) {
    const step = slider.at_least ? -1 : 1;
    for (let at = slider.at + step; at >= 0 && at < slider.positions.length; at += step) {
      if (choose(slider, at) < 0) continue;
      const limit = slider.positions[at];
      found.push(`${limitTitles[slider.name].toLowerCase()} to ` +
        (limit === null ? 'no limit' : showLimit[slider.name](limit)));
      break;
    }
  }
  return found;
}

function architecture(point) {
  const fields = {};
  for (const name of Object.keys(shape)) fields[name] = shape[name][point];
  fields.tied_embeddings = Boolean(fields.tied_embeddings);
  fields.input_injection = Boolean(fields.input_injection);
  fields.last_local = Boolean(fields.last_local);
  fields.sharing_order = fields.sharing_order ? 'cycle' : 'immediate';
  fields.window = fields.window || null;
  fields.global_every = fields.global_every || null;
  return fields;
}

function derived(a) {
  const attention = 2 * a.d_model * a.head_dim * (a.n_heads + a.n_kv_heads);
  const mlp = 3 * a.d_model * a.d_ff;
  const block = attention + mlp + 2 * a.d_model;
  const inside = a.n_blocks * block + a.d_model;
  const shared = a.n_blocks - a.n_prelude - a.n_coda;
  const depth = a.n_prelude + a.n_coda + a.sharing * shared;
  return {
    ratio: mlp / attention, group: a.n_heads / a.n_kv_heads, depth, shared,
    inside, applied: depth * block + a.d_model, width: a.d_model / Math.sqrt(inside),
  };
}
