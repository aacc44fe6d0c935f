// summary: one table at the end, what broke in plain words, and the same as JSON in the file that SUMMARY names.
import { text } from './settings.js';
import { codes, statuses } from './metrics.js';

// summarize is a scenario's handleSummary; units is the stock it sold.
export const summarize = (title, facts = {}) => (data) => {
  const result = gather(title, data, typeof facts === 'function' ? facts(data) : facts);
  const files = { stdout: page(result) };
  if (text('SUMMARY')) files[text('SUMMARY')] = JSON.stringify(result, null, 1);
  return files;
};

function gather(title, data, facts) {
  const values = (name) => (data.metrics[name] || { values: {} }).values;
  const count = (name) => values(name).count || 0;
  const byName = (names, name) => Object.fromEntries(names.map((n) => [n, count(name(n))]).filter(([, n]) => n > 0));
  const trend = (name) => (count(name) > 0 ? values(name) : undefined);
  const latency = { admitted: trend('order_answer_ms{outcome:admitted}') };
  for (const code of codes) latency[code] = trend(`order_answer_ms{code:${code}}`);
  const result = {
    scenario: title,
    seconds: data.state.testRunDurationMs / 1000,
    facts,
    requests: count('http_reqs'),
    admitted: count('orders_admitted'),
    replayed: count('orders_replayed'),
    refused: byName(codes, (code) => `orders_refused{code:${code}}`),
    ended: byName(statuses, (status) => `orders_ended{status:${status}}`),
    dropped: count('dropped_iterations'),
    latency_ms: latency,
    confirmed_ms: trend('order_confirmed_ms'),
    place_error_ms: trend('place_error_ms'),
  };
  result.broken = broken(data, result);
  return result;
}

// broken says in words what each threshold that does not hold means.
function broken(data, { facts, admitted, ended, dropped }) {
  const words = {
    'http_reqs{name:order}': () => 'nothing was ordered: the error before this table says why',
    orders_admitted: () => `oversold: ${admitted} orders answered 202 for ${facts.units} units`,
    'orders_ended{status:confirmed}': ({ values }) =>
      values.count > facts.units ? `oversold: ${values.count} confirmed of ${facts.units}` : `undersold: ${values.count} confirmed of ${facts.units}, and shoppers enough`,
    'orders_ended{status:failed}': () => `failed: ${ended.failed} orders answered 202 ended as failed`,
    orders_lost: (m) => `lost: ${m.values.count} orders answered 202 never reached a final status`,
    orders_doubled: (m) => `doubled: ${m.values.count} orders beyond what their users may hold`,
    answers_unexpected: (m) => `unexpected: ${m.values.count} answers (${surprises(data)})`,
    promises_broken: () => '', // teardown says each of them itself
    checks: (m) => `checks: ${m.values.fails} did not hold (${failedChecks(data.root_group)})`,
    dropped_iterations: () => `generator: ${dropped} arrivals were dropped, so the numbers are of the generator: raise VUS or lower the rate`,
  };
  const lines = [];
  for (const [name, metric] of Object.entries(data.metrics)) {
    const missed = Object.entries(metric.thresholds || {}).filter(([, t]) => !t.ok).map(([rule]) => rule);
    if (missed.length === 0) continue;
    lines.push(words[name] ? words[name](metric) : `slow: ${name}: ${missed.join(', ')} does not hold (${measured(metric.values)})`);
  }
  return lines.filter((line) => line !== '');
}

function surprises(data) {
  const found = Object.entries(data.metrics).filter(([name, m]) => name.startsWith('answers_unexpected{') && m.values.count > 0);
  return found.map(([name, m]) => `${m.values.count} ${name.slice('answers_unexpected{what:'.length, -1)}`).join(', ');
}

function failedChecks(group) {
  return group.checks.filter((c) => c.fails > 0).map((c) => `${c.fails}x ${c.name}`).join(', ');
}

const measured = (values) => Object.entries(values).map(([name, v]) => `${name} ${Math.round(v)}`).join(', ');

const ms = (v) => (v === undefined ? '-' : v < 10 ? v.toFixed(1) : v.toFixed(0));

function page(r) {
  const rows = [[`${r.scenario}`, `${r.seconds.toFixed(1)} s`, `${r.requests} requests`]];
  const add = (what, n) => rows.push(['  ' + what, String(n)]);
  add('admitted', r.admitted);
  if (r.replayed) add('replayed', r.replayed);
  for (const [code, n] of Object.entries(r.refused)) add(`refused ${code}`, n);
  for (const [status, n] of Object.entries(r.ended)) add(status, n);
  if (r.dropped) add('arrivals dropped', r.dropped);
  for (const [name, v] of Object.entries(r.facts)) add(name, v);
  rows.push(['ms', 'p50', 'p90', 'p99', 'max', 'count']);
  const line = (what, t) => t && rows.push(['  ' + what, ms(t.med), ms(t['p(90)']), ms(t['p(99)']), ms(t.max), String(t.count)]);
  for (const [outcome, t] of Object.entries(r.latency_ms)) line(`answer ${outcome}`, t);
  line('click to confirmed', r.confirmed_ms);
  line('place in line, error', r.place_error_ms);
  const verdict = r.broken.length === 0 ? ['every threshold held'] : r.broken.map((b) => `BROKEN ${b}`);
  return '\n' + rows.map(columns).concat(verdict).join('\n') + '\n\n';
}

const columns = ([first, ...rest]) => first.padEnd(24) + rest.map((cell) => cell.padStart(9)).join(' ');
