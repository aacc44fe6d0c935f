// sustained refusal: nothing is left and the crowd keeps coming. Refusals must stay fast, and cost the stores nothing.
//
// RATE     (1000)  clicks a second
// DURATION (30)    seconds
// STOCK    (10)    units on sale, gone at once
// VUS      (200)   shoppers that can be at it at the same time
// DROPPED  (0.02)  share of arrivals that the generator may fail to send
import exec from 'k6/execution';
import { Shopper } from './lib/client.js';
import { prepare, judge } from './lib/sale.js';
import { summarize } from './lib/summary.js';
import { thresholds, trendStats } from './lib/metrics.js';
import { graceful, number } from './lib/settings.js';

const rate = number('RATE', 1000);
const duration = number('DURATION', 30);
const stock = number('STOCK', 10);
const vus = number('VUS', 200);

export const options = {
  scenarios: {
    crowd: {
      executor: 'constant-arrival-rate',
      rate,
      timeUnit: '1s',
      duration: `${duration}s`,
      preAllocatedVUs: vus,
      maxVUs: vus * 2,
      gracefulStop: graceful,
    },
  },
  thresholds: thresholds({ units: stock, dropped_iterations: [`count<=${Math.ceil(rate * duration * number('DROPPED', 0.02))}`] }),
  summaryTrendStats: trendStats,
};

export const setup = () => prepare('refusal', { stock });

export default function (data) {
  const shopper = new Shopper(data, exec.scenario.iterationInTest);
  const order = shopper.order('click');
  if (order.admitted) shopper.follow(order);
}

export const teardown = judge;
export const handleSummary = summarize('sustained refusal', { units: stock, 'clicks per second': rate });
