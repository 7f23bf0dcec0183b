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

const count = data.points.n;
const shape = unpackedAll(data.points.shape, Int32Array);
const numbers = unpackedAll(data.points.numbers, Float64Array);
const extrapolated = unpackedAll(data.points.extrapolated, Float32Array);
const totalParameters = unpacked(data.points.total_parameters, Float64Array);

function scaled(value, steps) {
  if (!Number.isFinite(value)) return 'unknown';
  const step = steps.find(([factor]) => Math.abs(value) >= factor * 0.9995) || steps.at(-1);
  const shown = value / step[0];
  const digits = Math.abs(shown) >= 999.5 ? shown.toFixed(0) : shown.toPrecision(3);
  return `${shown ? digits : 0} ${step[1]}`.trimEnd();
}

const show = {
  bytes: value => scaled(value, [[1e12, 'TB'], [1e9, 'GB'], [1e6, 'MB'], [1e3, 'kB'], [1, 'B']]),
  seconds: value => scaled(value, [[1, 's'], [1e-3, 'ms'], [1e-6, 'µs'], [1e-9, 'ns']]),
  joules: value => scaled(value, [[1, 'J'], [1e-3, 'mJ'], [1e-6, 'µJ'], [1e-9, 'nJ']]),
  count: value => scaled(value, [[1e12, 'T'], [1e9, 'B'], [1e6, 'M'], [1e3, 'k'], [1, '']])
    .replace(' ', ''),
  operations: value => scaled(value,
    [[1e12, 'TFLOP'], [1e9, 'GFLOP'], [1e6, 'MFLOP'], [1e3, 'kFLOP'], [1, 'FLOP']]),
  speed: value => value >= 999.5 ? `${Math.round(value).toLocaleString('en')} tok/s`
    : `${Number(value.toPrecision(3))} tok/s`,
  loss: value => value.toFixed(4),
  gain: value => `${value >= 0 ? '+' : '−'}${Math.abs(value).toFixed(4)}`,
};

// A slider's own values are round: three digits would hide that they are exact.
const showLimit = {
  memory: value => exact(value, [[1e12, 'TB'], [1e9, 'GB'], [1e6, 'MB'], [1e3, 'kB'], [1, 'B']]),
  decode: value => `${plain(value)} tok/s`,
  ttft: value => exact(value, [[1, 's'], [1e-3, 'ms'], [1e-6, 'µs']]),
  energy: value => exact(value, [[1, 'J'], [1e-3, 'mJ'], [1e-6, 'µJ']]),
  target_loss: value => `${plain(value)} nats`,
};

function plain(value) {
  return Number(value.toPrecision(6)).toLocaleString('en', {maximumFractionDigits: 9});
}

function exact(value, steps) {
  const step = steps.find(([factor]) => value >= factor * 0.9995) || steps.at(-1);
  return `${plain(value / step[0])} ${step[1]}`;
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const $ = id => document.getElementById(id);
