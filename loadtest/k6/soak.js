// soak: a steady stream for hours, to find what grows: memory, Redis, tables, latency. One shopper in ten cancels, so
// units go round. Watch sluice_* and process_* beside it.
//
// RATE     (50)  shoppers a second
// DURATION (60)  minutes
// STOCK    (RATE x seconds, so that nobody is refused)
import exec from 'k6/execution';
import { check } from 'k6';
import { Shopper } from './lib/client.js';
import { prepare, judge } from './lib/sale.js';
import { summarize } from './lib/summary.js';
import { thresholds, trendStats } from './lib/metrics.js';
import { graceful, number } from './lib/settings.js';

const rate = number('RATE', 50);
const seconds = Math.ceil(number('DURATION', 60) * 60);
const stock = number('STOCK', rate * seconds + 1);

export const options = {
  scenarios: {
    stream: {
      executor: 'constant-arrival-rate',
      rate,
      timeUnit: '1s',
      duration: `${seconds}s`,
      preAllocatedVUs: Math.max(50, rate),
      maxVUs: Math.max(500, rate * 10),
      gracefulStop: graceful,
    },
  },
  thresholds: thresholds({ dropped_iterations: [`count<=${Math.ceil(rate * seconds * number('DROPPED', 0.001))}`] }),
  summaryTrendStats: trendStats,
};

export const setup = () => prepare('soak', { stock });

export default function (data) {
  const n = exec.scenario.iterationInTest;
  const shopper = new Shopper(data, n);
  const order = shopper.order('click', []);
  if (!order.admitted) return;
  const outcome = shopper.follow(order);
  if (outcome && outcome.status === 'confirmed' && n % 10 === 9) {
    check(shopper.cancel(order), { 'a confirmed order can be cancelled': (ok) => ok });
  }
}

export const teardown = judge;
export const handleSummary = summarize('soak', { 'shoppers per second': rate });
