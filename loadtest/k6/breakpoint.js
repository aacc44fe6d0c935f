// breakpoint: the rate climbs until a threshold breaks; the summary says where. Every shopper is admitted, so it is the
// whole way through Redis and database that breaks, not the cheap refusals. It ends with exit code 99 when it has found
// the point, 0 when the highest rate still held.
//
// MAX      (5000)   shoppers a second at the end
// DURATION (120)    seconds to climb to it
// BREAK_MS (500)    99th percentile of the answer at which it counts as broken
// VUS      (1000)   shoppers that can be at it at the same time
import exec from 'k6/execution';
import { Shopper } from './lib/client.js';
import { prepare, judge } from './lib/sale.js';
import { summarize } from './lib/summary.js';
import { thresholds, trendStats } from './lib/metrics.js';
import { graceful, number } from './lib/settings.js';

const max = number('MAX', 5000);
const duration = number('DURATION', 120);
const stock = max * duration; // more than can come
const stop = (threshold) => [{ threshold, abortOnFail: true, delayAbortEval: '5s' }];

export const options = {
  scenarios: {
    climb: {
      executor: 'ramping-arrival-rate',
      startRate: 0,
      timeUnit: '1s',
      preAllocatedVUs: number('VUS', 1000),
      stages: [{ target: max, duration: `${duration}s` }],
      gracefulStop: graceful,
    },
  },
  thresholds: thresholds({
    units: stock,
    'order_answer_ms{outcome:admitted}': stop(`p(99)<${number('BREAK_MS', 500)}`),
    answers_unexpected: stop('count==0'),
    dropped_iterations: stop(`count<${Math.max(10, max / 10)}`),
  }),
  summaryTrendStats: trendStats,
};

// The line holds a tenth of all that may come: the climb also shows how far workers stay behind.
export const setup = () => prepare('breakpoint', { stock, cap: Math.min(10_000_000, Math.ceil(stock / 10)) });

export default function (data) {
  const n = exec.scenario.iterationInTest;
  const shopper = new Shopper(data, n);
  const order = shopper.order('click', ['queue_full']);
  if (order.admitted && n % 100 === 0) shopper.follow(order); // one in a hundred: following costs the generator more than ordering
}

export const teardown = judge;
export const handleSummary = summarize('breakpoint', ({ state }) => ({
  units: stock,
  'reached per second': Math.round((max * Math.min(state.testRunDurationMs / 1000, duration)) / duration),
}));
