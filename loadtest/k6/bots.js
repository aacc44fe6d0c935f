// bots: a few users send many orders, each with a key of its own, as fast as they can, while people shop. A bot gets what
// a person gets, one order; the people must not notice. Set limits.per_user_rps to see bots refused before they cost anything.
//
// BOTS     (10)   users that do not stop
// RATE     (50)   people a second
// DURATION (20)   seconds
// STOCK    (BOTS + RATE x DURATION, so that each person can get one)
import exec from 'k6/execution';
import { Shopper } from './lib/client.js';
import { prepare, judge } from './lib/sale.js';
import { summarize } from './lib/summary.js';
import { doubled, thresholds, trendStats } from './lib/metrics.js';
import { graceful, number } from './lib/settings.js';

const bots = number('BOTS', 10);
const rate = number('RATE', 50);
const duration = number('DURATION', 20);
const stock = number('STOCK', bots + rate * duration + 1);

export const options = {
  scenarios: {
    bots: { executor: 'constant-vus', exec: 'bot', vus: bots, duration: `${duration}s`, gracefulStop: graceful },
    people: {
      executor: 'constant-arrival-rate',
      exec: 'person',
      rate,
      timeUnit: '1s',
      duration: `${duration}s`,
      preAllocatedVUs: Math.max(50, rate),
      maxVUs: Math.max(200, rate * 10),
      gracefulStop: graceful,
    },
  },
  thresholds: thresholds({ units: stock, dropped_iterations: [`count<=${Math.ceil(rate * duration * number('DROPPED', 0.02))}`] }),
  summaryTrendStats: trendStats,
};

export const setup = () => prepare('bots', { stock });

let got = 0; // of this bot, which is a virtual user of its own

export function bot(data) {
  const shopper = new Shopper(data, exec.vu.idInTest, 'bot');
  const order = shopper.order(`try-${exec.vu.iterationInScenario}`, ['limit_reached', 'rate_limited', 'queue_full']);
  if (!order.admitted) return;
  got += 1;
  if (got > data.limit) {
    doubled.add(1);
    console.error(`broken: user ${shopper.user} holds ${got} orders, limit ${data.limit}`);
  }
  shopper.follow(order);
}

export function person(data) {
  const shopper = new Shopper(data, bots + exec.scenario.iterationInTest);
  const order = shopper.order('click', ['queue_full']);
  if (order.admitted) shopper.follow(order);
}

export const teardown = judge;
export const handleSummary = summarize('bots', { units: stock, bots });
