// smoke: a few hundred shoppers order, follow their order and click twice; then the audit must be clean.
//
//   SLUICE_SECRET=… k6 run loadtest/k6/smoke.js
//
// BASE_URL   public listener       (http://127.0.0.1:8080)
// OPS_URL    operations listener   (http://127.0.0.1:8081)
// SHOPPERS   how many              (300)
// STOCK      units on sale         (100)
import http from 'k6/http';
import { check, fail } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import { hmac } from 'k6/crypto';
import encoding from 'k6/encoding';

const base = __ENV.BASE_URL || 'http://127.0.0.1:8080';
const ops = __ENV.OPS_URL || 'http://127.0.0.1:8081';
const shoppers = Number(__ENV.SHOPPERS || 300);
const stock = Number(__ENV.STOCK || 100);

export const options = {
  scenarios: {
    // Each shopper comes once; at most 50 are at it at the same time.
    shoppers: { executor: 'shared-iterations', vus: Math.min(50, shoppers), iterations: shoppers, maxDuration: '2m' },
  },
  thresholds: {
    checks: ['rate==1'],
    unexpected_answers: ['count==0'],
    'order_answer_ms{outcome:admitted}': ['p(99)<500'],
    'order_answer_ms{outcome:refused}': ['p(99)<500'],
    order_to_confirmed_ms: ['p(95)<5000'],
  },
};

const unexpected = new Counter('unexpected_answers');
const answer = new Trend('order_answer_ms', true);
const confirmed = new Trend('order_to_confirmed_ms', true);

// token signs a JWT as `sluice token` does.
function token(claims) {
  if (!__ENV.SLUICE_SECRET) fail('set SLUICE_SECRET to auth.secret of the system under test');
  const part = (value) => encoding.b64encode(JSON.stringify(value), 'rawurl');
  const now = Math.floor(Date.now() / 1000);
  const text = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ iat: now, exp: now + 3600, ...claims })}`;
  return `${text}.${hmac('sha256', __ENV.SLUICE_SECRET, text, 'base64rawurl')}`;
}

const admin = () => ({ headers: { Authorization: `Bearer ${token({ sub: 'k6', role: 'admin' })}`, 'Content-Type': 'application/json' } });

export function setup() {
  const sale = `k6-smoke-${Date.now()}`;
  const body = { id: sale, title: 'k6 smoke', sku: 'K6', stock, price_cents: 100, open: true };
  const made = http.post(`${ops}/admin/v1/sales`, JSON.stringify(body), admin());
  if (made.status !== 201) fail(`sale not created: ${made.status} ${made.body}`);
  return { sale };
}

export default function ({ sale }) {
  const user = `k6-${__VU}-${__ITER}`;
  const headers = { Authorization: `Bearer ${token({ sub: user })}`, 'Idempotency-Key': `"${user}"`, 'Content-Type': 'application/json' };
  const started = Date.now();
  const params = { headers, responseCallback: http.expectedStatuses(202, 409, 503) };
  const first = http.post(`${base}/v1/sales/${sale}/orders`, '{"quantity":1}', params);
  const body = first.json();
  const admitted = first.status === 202;
  if (!admitted && body.code !== 'sold_out' && body.code !== 'queue_full') unexpected.add(1, { code: String(body.code || first.status) });
  answer.add(first.timings.duration, { outcome: admitted ? 'admitted' : 'refused' });
  if (!admitted) return;

  check(first, {
    'has its place and wait': () => body.position >= 1 && body.eta_seconds >= 0,
    'Location is its own link': (r) => r.headers.Location === body.links.self,
  });
  const second = http.post(`${base}/v1/sales/${sale}/orders`, '{"quantity":1}', params);
  check(second, {
    'a double click is the same order': (r) => r.status === 202 && r.json('order_id') === body.order_id,
    'and says that it is a replay': (r) => r.headers['Idempotency-Replayed'] === 'true',
  });
  for (let tries = 0; tries < 10; tries++) {
    const order = http.get(`${base}${body.links.self}?wait=10s`, { headers });
    const status = order.json('status');
    if (status === 'queued' || status === 'processing') continue;
    check(order, { 'ends as confirmed': () => status === 'confirmed' });
    if (status === 'confirmed') confirmed.add(Date.now() - started);
    return;
  }
  unexpected.add(1, { code: 'never_settled' });
}

export function teardown({ sale }) {
  const audit = http.get(`${ops}/admin/v1/audit?sale=${sale}`, admin());
  const result = audit.json();
  if (audit.status !== 200 || !result.clean) fail(`the audit of ${sale} is not clean: ${audit.body}`);
  const sold = result.sales[0].live;
  if (sold !== Math.min(stock, shoppers)) fail(`${sold} units were sold, not ${Math.min(stock, shoppers)}`);
  console.log(`audit clean: ${sold} of ${stock} units sold to ${shoppers} shoppers`);
}
