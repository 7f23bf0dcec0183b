// Reading the page's data, and writing quantities as the command line does.

const data = JSON.parse(document.getElementById('data').textContent);

function unpacked(text, Kind) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at++) bytes[at] = raw.charCodeAt(at);
  return new Kind(bytes.buffer);
}

function unpackedAll(columns, Kind) {
  return Object.fromEntries(
    Object.entries(columns).map(([name, text]) => [name, unpacked(text, Kind)]));
}

function scaled(value, steps) {
  if (!Number.isFinite(value)) return 'unknown';
  const step = steps.find(([factor]) => Math.abs(value) >= factor * 0.9995) || steps.at(-1);
  const shown = value / step[0];
  const digits = Math.abs(shown) >= 999.5 ? shown.toFixed(0) : shown.toPrecision(3);
  return `${shown ? digits : 0} ${step[1]}`.trimEnd();
}

const BYTES = [[1e12, 'TB'], [1e9, 'GB'], [1e6, 'MB'], [1e3, 'kB'], [1, 'B']];
const SECONDS = [[1, 's'], [1e-3, 'ms'], [1e-6, 'µs'], [1e-9, 'ns']];
const JOULES = [[1, 'J'], [1e-3, 'mJ'], [1e-6, 'µJ'], [1e-9, 'nJ']];
const COUNTS = [[1e12, 'T'], [1e9, 'B'], [1e6, 'M'], [1e3, 'k'], [1, '']];

const show = {
  bytes: value => scaled(value, BYTES),
  seconds: value => scaled(value, SECONDS),
  joules: value => scaled(value, JOULES),
  count: value => scaled(value, COUNTS).replace(' ', ''),
  operations: value => scaled(value,
    [[1e12, 'TFLOP'], [1e9, 'GFLOP'], [1e6, 'MFLOP'], [1e3, 'kFLOP'], [1, 'FLOP']]),
  speed: value => value >= 999.5 ? `${Math.round(value).toLocaleString('en')} tok/s`
    : `${Number(value.toPrecision(3))} tok/s`,
  // A difference of losses: what lies below a thousandth of a nat is noise of any run.
  gap: value => Math.abs(value) < 0.0005 ? '0.000'
    : `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(3)}`,
  // Never all or nothing where the draws are only hundreds, as on the terminal.
  share: value => value >= 0.995 ? '> 99 %' : value <= 0.005 ? '< 1 %' : `${Math.round(100 * value)} %`,
  money: value => value >= 1e6 ? `$${(value / 1e6).toPrecision(3)}M`
    : value >= 1000 ? `$${Math.round(value).toLocaleString('en')}`
      : value >= 1 ? `$${value.toPrecision(2)}` : 'less than $1',
  blocks: count => `${count} ${count === 1 ? 'block' : 'blocks'}`,
};

const showBudget = {memory: show.bytes, decode: show.speed, ttft: show.seconds, energy: show.joules};

// A slider's own values are round: three digits would hide that they are exact.
const showLimit = {
  memory: value => exact(value, BYTES),
  decode: value => `${plain(value)} tok/s`,
  ttft: value => exact(value, SECONDS),
  energy: value => exact(value, JOULES),
};

// A sentence of the answer, with the sign that numbers have here.
function minus(text) {
  return text.replace(/-(?=[\d.])/g, '−');
}

function plain(value) {
  return Number(value.toPrecision(6)).toLocaleString('en', {maximumFractionDigits: 9});
}

function exact(value, steps) {
  const step = steps.find(([factor]) => value >= factor * 0.9995) || steps.at(-1);
  return `${plain(value / step[0])} ${step[1]}`.trimEnd();
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const $ = id => document.getElementById(id);
