// whole journey: look at the sale, order, follow the place in line, be confirmed, pay. Every tenth shopper cancels instead.
// Without PAYMENT_SECRET (payment.secret of the system under test) the journey ends at the confirmation, and says so.
//
// RATE     (30)  shoppers a second
// DURATION (10)  seconds
// STOCK    (RATE x DURATION, so that nobody is refused)
import http from 'k6/http';
import exec from 'k6/execution';
import { check } from 'k6';
import { Shopper } from './lib/client.js';
import { prepare, judge } from './lib/sale.js';
import { summarize } from './lib/summary.js';
import { thresholds, trendStats } from './lib/metrics.js';
import { base, graceful, number, text } from './lib/settings.js';

const rate = number('RATE', 30);
const duration = number('DURATION', 10);
const stock = number('STOCK', rate * duration + 1);
const pays = text('PAYMENT_SECRET') !== '';

export const options = {
  scenarios: {
    shoppers: {
      executor: 'constant-arrival-rate',
      rate,
      timeUnit: '1s',
      duration: `${duration}s`,
      preAllocatedVUs: Math.max(50, rate),
      maxVUs: Math.max(200, rate * 10),
      gracefulStop: graceful,
    },
  },
  thresholds: thresholds({ orders_admitted: [`count>=${Math.floor(rate * duration * 0.9)}`], dropped_iterations: [`count<=${Math.ceil(rate * duration * number('DROPPED', 0.02))}`] }),
  summaryTrendStats: trendStats,
};

export const setup = () => prepare('journey', { stock });

export default function (data) {
  const n = exec.scenario.iterationInTest;
  const sale = http.get(`${base}/v1/sales/${data.sale}`, { tags: { name: 'sale' } }).json();
  check(sale, { 'the page shows an open sale': (s) => s.state === 'open' && s.remaining <= s.stock_total });

  const shopper = new Shopper(data, n);
  const order = shopper.order('click', []);
  if (!order.admitted) return;
  const seen = shopper.look(order);
  if (seen && seen.status === 'queued') check(seen, { 'the place in line never grows': (s) => s.position <= order.position });
  const outcome = shopper.follow(order);
  if (!outcome || outcome.status !== 'confirmed') return;

  if (n % 10 === 9) {
    if (shopper.cancel(order)) check(shopper.look(order), { 'a cancelled order stays cancelled': (o) => o && o.status === 'cancelled' });
  } else if (pays && shopper.pay(order, sale.price_cents, sale.currency)) {
    check(shopper.look(order), { 'a paid order is shown as paid': (o) => o && o.status === 'paid' });
    shopper.pay(order, sale.price_cents, sale.currency); // the provider repeats itself; nothing may change
    check(shopper.look(order), { 'a repeated payment changes nothing': (o) => o && o.status === 'paid' });
  }
}

export const teardown = judge;
export const handleSummary = summarize('whole journey', { payments: pays ? 'on' : 'off, ends at confirmed' });
