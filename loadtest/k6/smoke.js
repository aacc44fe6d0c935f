// smoke: a few hundred shoppers order, follow their order and click twice.
//
//   SLUICE_AUTH__SECRET=… k6 run loadtest/k6/smoke.js
//
// SHOPPERS (300)  how many
// STOCK    (100)  units on sale
import http from 'k6/http';
import exec from 'k6/execution';
import { check } from 'k6';
import { Shopper } from './lib/client.js';
import { prepare, judge } from './lib/sale.js';
import { summarize } from './lib/summary.js';
import { thresholds, trendStats } from './lib/metrics.js';
import { base, graceful, number } from './lib/settings.js';

const shoppers = number('SHOPPERS', 300);
const stock = number('STOCK', 100);

export const options = {
  scenarios: {
    // Each shopper comes once; at most 50 are at it at the same time.
    shoppers: { executor: 'shared-iterations', vus: Math.min(50, shoppers), iterations: shoppers, maxDuration: '5m', gracefulStop: graceful },
  },
  thresholds: thresholds({ units: stock, sold: Math.min(shoppers, stock) }),
  summaryTrendStats: trendStats,
};

export const setup = () => prepare('smoke', { stock });

export default function (data) {
  const shown = http.get(`${base}/v1/sales/${data.sale}`, { tags: { name: 'sale' } });
  check(shown, { 'the sale is on': (r) => r.status === 200 && r.json('state') === 'open' });

  const shopper = new Shopper(data, exec.scenario.iterationInTest);
  const first = shopper.order('click');
  if (!first.admitted) return;
  const second = shopper.order('click');
  check(second, { 'a double click is the same order, said to be a replay': (s) => s.id === first.id && s.replay });
  shopper.follow(first);
}

export const teardown = judge;
export const handleSummary = summarize('smoke', { units: stock });
