// The chosen architecture, drawn to scale.

const widest = question
  ? shapes.fields.d_model.subarray(0, shapes.picks).reduce((most, value) => Math.max(most, value), 1)
  : 1;

function draw(svg, width, height, title) {
  svg.replaceChildren();
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  svg.setAttribute('aria-label', title);
  const add = (tag, attributes, text) => {
    const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    svg.append(node);
    return node;
  };
  return {
    rect: (x, y, w, h, name, radius = 1.5) => add('rect',
      {x, y, width: Math.max(w, 0.4), height: Math.max(h, 0.4), rx: radius, class: name}),
    path: (d, name) => add('path', {d, class: name}),
    text: (x, y, words, anchor = 'start', name = '') =>
      add('text', {x, y, 'text-anchor': anchor, class: name}, words),
  };
}

function isGlobal(a, block) {
  if (!a.window) return true;
  if (!a.global_every) return false;
  return (block + 1) % a.global_every === 0 || block === a.n_blocks - 1;
}

// Tokens flow from left to right: embedding, each stored block once, head. Height is width.
function drawStack(a) {
  const d = derived(a);
  // On a narrow screen fewer units across keep the lettering readable.
  const narrow = $('stack').clientWidth < 460;
  const [width, height, base] = [narrow ? 380 : 620, 214, 176];
  const which = d.shared === a.n_blocks ? 'each' : `${d.shared} of them`;
  const words = show.blocks(a.n_blocks) +
    (a.sharing > 1 ? `, ${which} applied ${a.sharing} times` : '');
  const to = draw($('stack'), width, height, `The stack: ${words}, ${a.d_model} wide`);
  const tall = 34 + 92 * a.d_model / widest;
  const top = base - tall;
  const [left, right] = [60, width - 26];
  to.rect(31, top, 13, tall, 'vocabulary', 3);
  to.rect(right + 6, top, 13, tall, 'vocabulary', 3);
  const pitch = Math.min(30, (right - left) / a.n_blocks);
  const gap = Math.min(3, pitch * 0.18);
  const start = left + ((right - left) - pitch * a.n_blocks) / 2;
  const attention = tall / (1 + d.ratio);
  for (let block = 0; block < a.n_blocks; block++) {
    const x = start + block * pitch;
    to.rect(x, top, pitch - gap, tall - attention - 1, 'mlp');
    // A block that looks through a window reads less: its attention is drawn narrower.
    const share = isGlobal(a, block) ? 1 : 0.45;
    to.rect(x, base - attention, (pitch - gap) * share, attention, 'attention');
    const again = block >= a.n_prelude && block < a.n_blocks - a.n_coda;
    if (a.sharing > 1 && again && pitch >= 11) loop(to, x, pitch - gap, top);
  }
  if (a.sharing > 1 && pitch < 11) {
    loop(to, start + pitch * a.n_prelude, pitch * d.shared - gap, top, 24);
  }
  const middle = start + pitch * a.n_blocks / 2;
  const above = a.sharing > 1 ? top - (pitch < 11 ? 36 : 26) : top - 10;
  if (a.sharing > 1) {
    to.text(middle, above, `${which === 'each' ? 'each block' : which} applied ${a.sharing}×` +
      (a.sharing_order === 'cycle' ? ' in cycles' : ''), 'middle', 'strong');
  }
  to.path(`M${start} ${base + 9}v4h${pitch * a.n_blocks - gap}v-4`, 'line');
  to.text(middle, base + 30, a.sharing > 1
    ? `${show.blocks(a.n_blocks)} stored, ${d.depth} layers deep` : show.blocks(a.n_blocks), 'middle');
  to.path(`M25 ${top}h-4v${tall}h4`, 'line');
  const label = to.text(14, top + tall / 2, `width ${a.d_model}`, 'middle');
  label.setAttribute('transform', `rotate(-90 14 ${top + tall / 2})`);
  to.text(37, base + 30, 'tokens', 'middle');
  to.text(right + 12, base + 30, a.tied_embeddings ? 'tied' : 'head', 'middle');
}

function loop(to, x, width, top, rise = 13) {
  const [from, back] = [x + width * 0.82, x + width * 0.18];
  to.path(`M${from} ${top - 3}C${from} ${top - rise - 4} ${back} ${top - rise - 4} ${back} ${top - 5}`,
    'loop');
  to.path(`M${back - 3} ${top - 7}h6l-3 5z`, 'loop-head');
}

// One block: query heads over the key-value head they share, and the MLP beside the width.
function drawBlock(a) {
  const d = derived(a);
  const [width, height] = [330, 214];
  const to = draw($('block'), width, height,
    `One block: ${a.n_heads} query heads, ${a.n_kv_heads} key-value heads of ${a.head_dim}, ` +
    `MLP ${a.d_ff} wide`);
  to.text(0, 14, `${a.n_heads} query heads on ${a.n_kv_heads} key-value, of ${a.head_dim}`, 'start',
    'strong');
  // As few rows as leave the squares large enough to tell apart.
  let [size, perRow] = [0, a.n_kv_heads];
  for (let rows = 1; rows <= a.n_kv_heads && size < 9; rows++) {
    const across = Math.ceil(a.n_kv_heads / rows);
    const fitting = Math.min(17, (width / across - 6) / d.group, 86 / rows - 9);
    if (fitting > size) [size, perRow] = [fitting, across];
  }
  size = Math.max(size, 1.5);
  const [groupWide, y0] = [d.group * size + 6, 24];
  for (let group = 0; group < a.n_kv_heads; group++) {
    const x = (group % perRow) * groupWide;
    const y = y0 + Math.floor(group / perRow) * (size + 9);
    for (let head = 0; head < d.group; head++) {
      to.rect(x + head * size, y, size - 1.5, size - 1.5, 'attention', 2);
    }
    to.rect(x, y + size, d.group * size - 1.5, 3, 'vocabulary', 1.5);
  }
  const y = Math.max(y0 + Math.ceil(a.n_kv_heads / perRow) * (size + 9) + 28, 100);
  const longest = Math.max(a.d_ff, a.d_model);
  to.text(0, y, `MLP ${a.d_ff}, ${(a.d_ff / a.d_model).toFixed(2)} × the width`, 'start', 'strong');
  to.rect(0, y + 8, width * a.d_ff / longest, 13, 'mlp', 3);
  to.rect(0, y + 25, width * a.d_model / longest, 7, 'vocabulary', 3);
  const share = d.ratio / (1 + d.ratio);
  to.rect(0, y + 52, width * share - 1, 6, 'mlp', 3);
  to.rect(width * share + 1, y + 52, width * (1 - share) - 1, 6, 'attention', 3);
  to.text(0, y + 74, `parameters: MLP ${Math.round(100 * share)} %`);
  to.text(width, y + 74, `attention ${Math.round(100 - 100 * share)} %`, 'end');
  $('block').setAttribute('viewBox', `0 0 ${width} ${Math.max(y + 80, 190)}`);
}

function blocksInWords(a) {
  if (a.sharing === 1) return show.blocks(a.n_blocks);
  const which = derived(a).shared === a.n_blocks ? 'each' : `${derived(a).shared} of them`;
  return `${show.blocks(a.n_blocks)}, ${which} applied ${a.sharing}×` +
    (a.sharing_order === 'cycle' ? ' in cycles' : '');
}

function inWords(a, stored) {
  const window = a.window ? `, window ${a.window}` +
    (a.global_every ? ` (every ${a.global_every}th block global)` : '') : '';
  return `d_model ${a.d_model}, ${blocksInWords(a)}, ` +
    `${a.n_heads} heads (${a.n_kv_heads} KV) of ${a.head_dim}, d_ff ${a.d_ff}${window}, ` +
    `vocabulary ${a.vocab_size.toLocaleString('en')}${a.tied_embeddings ? ' tied' : ''}` +
    (stored ? `, ${stored}` : '');
}

function briefly(a) {
  return `${a.d_model} × ${a.n_blocks}${a.sharing > 1 ? ` × ${a.sharing}` : ''}`;
}
