// opening bell: from nobody to the whole crowd within seconds. Arrivals do not wait for answers (open model), so a slow
// system meets the same crowd as a fast one.
//
// PEAK  (500)  shoppers a second
// RAMP  (3)    seconds from 0 to PEAK
// HOLD  (20)   seconds at PEAK
// STOCK (2000) units on sale
// VUS   (PEAK, 50 to 1000)  shoppers that can be at it at the same time; half as many again are added when needed
// DROPPED (0.02)  share of arrivals that the generator may fail to send
import exec from 'k6/execution';
import { Shopper } from './lib/client.js';
import { prepare, judge } from './lib/sale.js';
import { summarize } from './lib/summary.js';
import { thresholds, trendStats } from './lib/metrics.js';
import { graceful, number } from './lib/settings.js';

const peak = number('PEAK', 500);
const ramp = number('RAMP', 3);
const hold = number('HOLD', 20);
const stock = number('STOCK', 2000);
const vus = number('VUS', Math.max(50, Math.min(1000, peak)));
const arrivals = peak * (ramp / 2 + hold + 0.5);

export const options = {
  scenarios: {
    crowd: {
      executor: 'ramping-arrival-rate',
      startRate: 0,
      timeUnit: '1s',
      preAllocatedVUs: vus,
      maxVUs: Math.ceil(vus * 1.5),
      stages: [{ target: peak, duration: `${ramp}s` }, { target: peak, duration: `${hold}s` }, { target: 0, duration: '1s' }],
      gracefulStop: graceful,
    },
  },
  thresholds: thresholds({ units: stock, sold: Math.min(stock, Math.floor(arrivals * 0.9)), dropped_iterations: [`count<=${Math.ceil(arrivals * number('DROPPED', 0.02))}`] }),
  summaryTrendStats: trendStats,
};

export const setup = () => prepare('bell', { stock });

export default function (data) {
  const shopper = new Shopper(data, exec.scenario.iterationInTest);
  const order = shopper.order('click');
  if (order.admitted) shopper.follow(order);
}

export const teardown = judge;
export const handleSummary = summarize('opening bell', { units: stock, 'peak per second': peak });
