// settings: every parameter comes from the environment; loadtest/README.md lists them.
import { fail } from 'k6';

export const text = (name, otherwise = '') => __ENV[name] || otherwise;

export function number(name, otherwise) {
  const value = Number(text(name, String(otherwise)));
  if (!(value >= 0)) fail(`${name} must be a number, got "${__ENV[name]}"`);
  return value;
}

export const base = text('BASE_URL', 'http://127.0.0.1:8080');
export const ops = text('OPS_URL', 'http://127.0.0.1:8081');

// PATIENCE: seconds until an order that was answered 202 and has no final status counts as lost.
export const patience = number('PATIENCE', 30);

// What an answer may take at the 99th percentile, in ms. Generous, so that a shared machine passes: what is measured
// here with the generator on the same cores is no promise. Correctness has no such settings.
export const admittedWithin = number('P99_ADMITTED_MS', 2000);
export const refusedWithin = number('P99_REFUSED_MS', 2000);
export const confirmedWithin = number('P95_CONFIRMED_MS', 20000);

// graceful lets shoppers who wait in line know their outcome before k6 ends them.
export const graceful = `${patience + 10}s`;
