// double clicks: every shopper clicks five times at the same moment, three times with one Idempotency-Key and twice with
// others, and once more when the outcome is known. One order each, and whoever holds one never reads "sold out".
//
// SHOPPERS (300)  how many
// STOCK    (200)  units on sale
import exec from 'k6/execution';
import { check } from 'k6';
import { Shopper } from './lib/client.js';
import { prepare, judge } from './lib/sale.js';
import { summarize } from './lib/summary.js';
import { doubled, thresholds, trendStats } from './lib/metrics.js';
import { graceful, number } from './lib/settings.js';

const shoppers = number('SHOPPERS', 300);
const stock = number('STOCK', 200);

export const options = {
  scenarios: {
    shoppers: { executor: 'shared-iterations', vus: Math.min(50, shoppers), iterations: shoppers, maxDuration: '5m', gracefulStop: graceful },
  },
  thresholds: thresholds({ units: stock, sold: Math.min(shoppers, stock) }),
  summaryTrendStats: trendStats,
};

export const setup = () => prepare('double', { stock });

export default function (data) {
  const shopper = new Shopper(data, exec.scenario.iterationInTest);
  const clicks = shopper.orders(['one', 'one', 'two', 'one', 'three'], ['sold_out', 'queue_full', 'limit_reached']);
  const queued = clicks.filter((c) => c.admitted);
  const held = [...new Set(queued.map((c) => c.id))];
  if (held.length > data.limit) report(shopper, held, data.limit);
  const ones = [clicks[0], clicks[1], clicks[3]];
  const named = clicks.filter((c) => c.code === 'limit_reached');
  check(clicks, {
    'a winner never reads sold out': () => queued.length === 0 || clicks.every((c) => c.code !== 'sold_out'),
    'one key has one answer': () => ones.every((c) => c.admitted === ones[0].admitted && c.id === ones[0].id),
    'whoever is refused for holding an order is told which': () => named.every((c) => held.includes(c.id)),
    'every 202 but the first is said to be a replay': () => held.length !== 1 || queued.filter((c) => !c.replay).length === 1,
  });
  if (queued.length === 0) return;
  for (const id of held) shopper.follow(queued.find((c) => c.id === id));
  const late = shopper.order('four', ['limit_reached']);
  check(late, { 'a winner who clicks again is told of the order held': () => late.code === 'limit_reached' && held.includes(late.id) });
}

function report(shopper, held, limit) {
  doubled.add(held.length - limit);
  console.error(`broken: user ${shopper.user} holds ${held.length} orders, limit ${limit}: ${held.join(', ')}`);
}

export const teardown = judge;
export const handleSummary = summarize('double clicks', { units: stock });
