// metrics: what is counted, and what must hold of it in every scenario.
import { Counter, Trend } from 'k6/metrics';
import { admittedWithin, refusedWithin, confirmedWithin, text } from './settings.js';

export const admitted = new Counter('orders_admitted'); // 202, replays not counted
export const replayed = new Counter('orders_replayed'); // 202 that repeats an earlier one
export const refused = new Counter('orders_refused'); // by code
export const ended = new Counter('orders_ended'); // by status
export const lost = new Counter('orders_lost'); // answered 202, never reached a final status
export const doubled = new Counter('orders_doubled'); // beyond what their user may hold
export const unexpected = new Counter('answers_unexpected'); // by what
export const broken = new Counter('promises_broken'); // found by teardown in the ledger
export const answerMs = new Trend('order_answer_ms', true); // by outcome
export const confirmedMs = new Trend('order_confirmed_ms', true); // from the click to the confirmation
export const placeErrorMs = new Trend('place_error_ms', true); // |expected wait - real wait|

export const codes = ['sold_out', 'queue_full', 'limit_reached', 'rate_limited', 'sale_not_started', 'sale_paused', 'sale_ended'];
export const statuses = ['confirmed', 'paid', 'failed', 'cancelled', 'expired'];
const surprises = ['no_answer', 'unavailable', 'internal', 'unauthorized', 'not_found', 'invalid_request', 'not_cancellable', 'broken_answer', 'wrong_status', ...codes];

export const trendStats = ['count', 'med', 'p(90)', 'p(95)', 'p(99)', 'p(99.9)', 'max'];

// thresholds: units is how many orders may be admitted at most; leave it out where cancelled units are sold again. sold is
// how many must be confirmed, where more shoppers come than there are units; a sale that SALE names may have fewer left.
// An entry that always holds makes k6 keep that part of a metric apart for the summary.
export function thresholds({ units, sold = 0, ...more } = {}) {
  const all = {
    'http_reqs{name:order}': ['count>0'],
    checks: ['rate==1'],
    orders_lost: ['count==0'],
    orders_doubled: ['count==0'],
    answers_unexpected: ['count==0'],
    promises_broken: ['count==0'],
    order_confirmed_ms: [`p(95)<${confirmedWithin}`],
    'order_answer_ms{outcome:admitted}': [`p(99)<${admittedWithin}`],
    'order_answer_ms{outcome:refused}': [`p(99)<${refusedWithin}`],
  };
  for (const code of codes) all[`orders_refused{code:${code}}`] = ['count>=0'];
  for (const code of codes) all[`order_answer_ms{code:${code}}`] = ['max>=0'];
  for (const status of statuses) all[`orders_ended{status:${status}}`] = ['count>=0'];
  for (const what of surprises) all[`answers_unexpected{what:${what}}`] = ['count>=0'];
  all['orders_ended{status:failed}'] = ['count==0'];
  if (units !== undefined) {
    all.orders_admitted = [`count<=${units}`];
    all['orders_ended{status:confirmed}'] = [`count<=${units}`, `count>=${text('SALE') ? 0 : sold}`];
  }
  return { ...all, ...more };
}
