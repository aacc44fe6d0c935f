// one per user: every unit meets several shoppers, each exactly once and all at the same moment. Exactly the stock sells.
//
// SHOPPERS (500)  how many, each a virtual user of its own
// STOCK    (200)  units on sale
import exec from 'k6/execution';
import { Shopper } from './lib/client.js';
import { prepare, judge } from './lib/sale.js';
import { summarize } from './lib/summary.js';
import { thresholds, trendStats } from './lib/metrics.js';
import { graceful, number } from './lib/settings.js';

const shoppers = number('SHOPPERS', 500);
const stock = number('STOCK', 200);

export const options = {
  scenarios: {
    shoppers: { executor: 'per-vu-iterations', vus: shoppers, iterations: 1, maxDuration: '2m', gracefulStop: graceful },
  },
  thresholds: thresholds({ units: stock, sold: Math.min(shoppers, stock) }),
  summaryTrendStats: trendStats,
};

export const setup = () => prepare('each', { stock });

export default function (data) {
  const shopper = new Shopper(data, exec.vu.idInTest);
  const order = shopper.order('click', ['sold_out']);
  if (order.admitted) shopper.follow(order);
}

export const teardown = judge;
export const handleSummary = summarize('one per user', { units: stock });
