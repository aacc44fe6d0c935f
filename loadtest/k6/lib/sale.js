// sale: setup creates the sale, teardown judges it by audit and ledger.
import http from 'k6/http';
import { fail, sleep } from 'k6';
import { ops, patience, text } from './settings.js';
import { sign } from './client.js';
import { broken } from './metrics.js';

const admin = () => ({ headers: { Authorization: `Bearer ${text('ADMIN_TOKEN') || sign({ sub: 'k6', role: 'admin' })}`, 'Content-Type': 'application/json' } });

// prepare returns what the scenario gets: a sale of its own, or the one that SALE names.
export function prepare(kind, { stock, limit = 1, cap = 0 }) {
  const run = Date.now().toString(36); // tells the users of this run from those of others
  if (text('SALE')) return { sale: text('SALE'), run, limit, ours: false };
  const sale = `k6-${kind}-${run}`;
  const body = { id: sale, title: `Load test: ${kind}`, sku: 'K6', stock, price_cents: 9900, currency: 'CNY', per_user_limit: limit, cap, open: true };
  const made = http.post(`${ops}/admin/v1/sales`, JSON.stringify(body), admin());
  if (made.status !== 201) fail(`sale not created at ${ops}: ${made.status} ${made.body || made.error}`);
  return { sale, run, limit, stock, ours: true };
}

function broke(what) {
  broken.add(1);
  console.error(`broken: ${what}`);
}

// judge fails the run unless the stores agree and the ledger holds what it may. With AUDIT=off it is left to others.
export function judge({ sale, stock, limit, ours }) {
  if (text('AUDIT') === 'off') return;
  const books = settled(sale);
  if (!books) return;
  if (books.in_flight > 0) broke(`lost: ${books.in_flight} tickets are still in line after ${patience} s`);
  if (ours && books.live > stock) broke(`oversold: ${books.live} units sold of ${stock}`);
  if (books.over_limit > 0) overLimit(sale, limit);
  for (const problem of books.problems || []) broke(`audit of ${sale}: ${problem}`);
  if (ours) http.post(`${ops}/admin/v1/sales/${sale}/close`, '{"reason":"load test over"}', admin());
}

// settled returns the audit once both stores have been compared and nothing is in flight, or as it stands when patience ends.
function settled(sale) {
  for (const start = Date.now(); ; sleep(0.5)) {
    const r = http.get(`${ops}/admin/v1/audit?sale=${sale}`, admin());
    if (r.status !== 200) return broke(`no audit: ${ops} answered ${r.status} ${r.body || r.error}`);
    const books = r.json().sales[0];
    if (books.verdict !== 'unknown' && books.in_flight === 0 || Date.now() - start > patience * 1000) return books;
  }
}

const ledgerPages = 200; // of 100 orders: enough to name some users

// overLimit names users who hold more than they may.
function overLimit(sale, limit) {
  const held = {};
  let next = '';
  for (let page = 0; page < ledgerPages; page++) {
    const r = http.get(`${ops}/admin/v1/sales/${sale}/orders?limit=100${next ? `&cursor=${next}` : ''}`, admin());
    if (r.status !== 200) return broke(`the ledger cannot be read: ${r.status} ${r.body || r.error}`);
    for (const o of r.json().orders) {
      if (o.status === 'confirmed' || o.status === 'paid') held[o.user] = (held[o.user] || 0) + o.quantity;
    }
    next = r.json().next_cursor;
    if (!next) break;
  }
  const greedy = Object.keys(held).filter((user) => held[user] > limit);
  for (const user of greedy.slice(0, 3)) broke(`user ${user} holds ${held[user]} units, limit ${limit}`);
  if (greedy.length > 3) broke(`${greedy.length - 3} more users hold more than ${limit}`);
}
